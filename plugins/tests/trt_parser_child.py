"""Child process: TensorRT for RTX parses an ONNX file with a plugin library loaded; prints its parser's log.

    python trt_parser_child.py LIBRARY|- MODEL

RTX finds, creates and then cannot place a plugin: it ends the process when the layer is added (docs/
tensorrt-plugin.md). What counts is what its parser, the parser of TensorRT, did before that.
"""

import sys

import tensorrt_rtx as trt


class Printed(trt.ILogger):
    """Every message on stdout at once: the process may end at any of them."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)

    def log(self, severity: object, message: str) -> None:
        print(message, flush=True)


def main(library: str, model: str) -> None:
    logger = Printed()
    if library != "-":
        trt.get_plugin_registry().load_library(library)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    print(f"parsed: {parser.parse_from_file(model)}, layers: {network.num_layers}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
