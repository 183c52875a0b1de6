"""Child process: builds an engine of one Sigmoid for each compute capability that TensorRT for RTX knows.

    python rtx_engines.py FOLDER

Writes FOLDER/NAME.engine, "portable" without any; prints {"version", "names"} as JSON. A child, because the
builder may end its process.
"""

import json
import sys
from pathlib import Path

import tensorrt_rtx as trt


def built(capabilities):
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    source = network.add_input("x", trt.DataType.FLOAT, (1, 3, 4, 4))
    network.mark_output(network.add_activation(source, trt.ActivationType.SIGMOID).get_output(0))
    config = builder.create_builder_config()
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
        for i, name in enumerate(capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), i)
    return bytes(builder.build_serialized_network(network, config))


def main(folder):
    single = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    sets = {"portable": [], "SM86+SM120": ["SM86", "SM120"], **{name: [name] for name in single}}
    for name, capabilities in sets.items():
        (folder / f"{name}.engine").write_bytes(built(capabilities))
    print(json.dumps({"version": trt.__version__, "names": list(sets)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
