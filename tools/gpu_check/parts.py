"""The parts of the check. Each runs in a process of its own, so that one that crashes or hangs costs no other:

python -m tools.gpu_check.parts NAME FOLDER SECONDS      FOLDER: that of a `Check`, where the outcome goes
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from apa_deploy.errors import MissingError

from . import building, programs
from .check import Check
from .outcome import Outcome, outcome_of
from .prepared import Prepared


@dataclass(frozen=True)
class Part:
    """`seconds`: after which it is cut off."""

    run: Callable[[Check], Outcome]
    seconds: float


def _clocks(check: Check) -> Outcome:
    from .clocks import readable

    return readable()


def _driver(check: Check) -> Outcome:
    from .driver import check_driver

    return check_driver()


def _plugin(check: Check) -> Outcome:
    from .kernels import check_plugin

    return check_plugin(check.plugin(), check.architecture())


def _library(check: Check) -> Outcome:
    from .library import drive_library

    program, capability = check.programs()["trt_on_device_test"], programs.capability() or check.architecture()
    named = {"APA_TRT_LIBRARY": check.plugin()}
    return drive_library("library", program, named, check.folder, capability, check.keep)


def _operators(check: Check) -> Outcome:
    from .library import drive_library

    programs_ = check.programs()
    if building.OPERATORS not in programs_:
        building.fetch("onnxruntime_headers.py")  # raises what is missing
    named, capability = {"APA_ORT_LIBRARY": check.operators()}, programs.capability() or check.architecture()
    program = programs_[building.OPERATORS]
    return drive_library("operators", program, named, check.folder, capability, check.keep)


def _plan(check: Check) -> Outcome:
    from .plan import check_plan_kernels

    return check_plan_kernels(Prepared(check.prepared).plan if check.prepared else None, check.keep)


def _exhaustive(check: Check) -> Outcome:
    from .exhaustive import check_every_float

    return check_every_float(check.programs()["exhaustive"], check.folder)


def _kernels(check: Check) -> Outcome:
    from .kernels import run_kernel_suites

    return run_kernel_suites(check.programs(), check.folder, check.keep)


def _bandwidth(check: Check) -> Outcome:
    from .kernels import bandwidth

    return bandwidth(check.programs()["bandwidth"], check.folder)


def _chain(check: Check) -> Outcome:
    from .chain import measure_chains

    return measure_chains(check.programs()["chain"], check.folder)


def _onnxruntime(check: Check) -> Outcome:
    from .ort import check_operators

    return check_operators(check.operators)


def _torch(check: Check) -> Outcome:
    from .beside import check_torch

    return check_torch()


def _engines(check: Check) -> Outcome:
    from apa_deploy.loading.load import load

    from . import engines

    engines.check_machine()
    model = load(check.model) if check.model else engines.default_model()
    wanted = engines.Wanted(check.precision, plugin=check.plugin())
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr)  # noqa: E731
    outcome, built = engines.build_engines(check.folder, model, wanted, say)
    document = {"engines": {name: str(path) for name, path in built.items()}, "sample": list(model.input.sizes)}
    (check.folder / "engines.built").write_text(json.dumps(document), encoding="utf-8")
    return outcome


def _latency(check: Check) -> Outcome:
    built = check.folder / "engines.built"
    document = json.loads(built.read_text(encoding="utf-8")) if built.is_file() else {"engines": {}}
    if not document["engines"]:
        raise MissingError("no engine was built", "the part 'engines'", "See why it could not be built.")
    from . import latency

    engines = {name: Path(path) for name, path in document["engines"].items()}
    return latency.measure_latency(engines, check.plugin(), document["sample"])


# In this order: what proves most in least time comes first.
PARTS = {
    "clocks": Part(_clocks, 30),
    "driver": Part(_driver, 60),
    "plugin": Part(_plugin, 300),
    "library": Part(_library, 320),
    "operators": Part(_operators, 240),
    "plan": Part(_plan, 90),
    "exhaustive": Part(_exhaustive, 170),
    "kernels": Part(_kernels, 300),
    "bandwidth": Part(_bandwidth, 130),
    "chain": Part(_chain, 70),
    "torch": Part(_torch, 180),
    "onnxruntime": Part(_onnxruntime, 300),
    "engines": Part(_engines, 3600),
    "latency": Part(_latency, 600),
}


class CutOff(BaseException):
    """The part's time is over. Not an error of the part, so that nothing in it catches it."""


def main(name: str, folder: Path, seconds: float) -> int:
    """Run one part; its outcome is kept in the folder. What it started ends with it."""
    check = Check.read(folder)
    signal.signal(signal.SIGALRM, _cut_off)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        check.keep(outcome_of(name, lambda: PARTS[name].run(check)))
    except CutOff:
        check.keep(
            check.failed(name, f"cut off after {seconds:.0f} s", "Give it more time, or run it alone: --parts.")
        )
    return 0


def _cut_off(*_: object) -> None:
    raise CutOff


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])))
