"""Child process: the parts of tools/gpu_check that need TensorRT, on a tiny network. Prints the outcomes as JSON.

python gpu_check_child.py FOLDER
"""

import ctypes
import json
import sys
from pathlib import Path

from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.tensors.signature import image_signature
from tests.networks import tiny_net
from tools.gpu_check import driver, engines, latency, plan
from tools.gpu_check.outcome import outcome_of


def main(folder: Path) -> None:
    said: list[str] = []
    engines.check_machine()
    model, wanted = (
        TorchNetwork(tiny_net(), image_signature((3, 8, 8)), Metadata("tiny")),
        engines.Wanted(batches=(1, 8, 8)),
    )
    built, paths = engines.build_engines(folder, model, wanted, said.append)
    timed = outcome_of("latency", lambda: latency.measure_latency(paths, None, model.input.sizes))
    driven = outcome_of("driver", driver.check_driver)
    carried = outcome_of("plan", lambda: plan.check_plan_kernels(None, lambda _: None))
    ctypes.CDLL(None).setenv(b"STANDIN_KERNEL_FAULT", b"1", 1)
    faulty = outcome_of("plan", lambda: plan.check_plan_kernels(None, lambda _: None))
    found = {"driver": driven, "engines": built, "latency": timed, "plan": carried, "faulty plan": faulty}
    print(json.dumps({"said": said} | {name: outcome.as_json() for name, outcome in found.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
