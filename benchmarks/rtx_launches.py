"""Kernel launches of engines with learned activations beside their SiLU twins, counted without a GPU.

    python -m benchmarks.rtx_launches [--precision fp16 bf16 fp32] [--capability 8.0] [--json]

TensorRT for RTX builds each engine and lists its layers in its verbose log. The twin is the same graph with
x*Sigmoid(x) for AGLU and Sigmoid for APA; "softplus" is the form that most exporters write.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import onnx
from apa_exporters.tensorrt_rtx.build_process import Built, Job, build_in_child
from apa_exporters.tensorrt_rtx.limits import capability_names
from torch import nn

from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.precision import HALF_ELEMENT, LOWEST_OPSET, in_precision
from apa_deploy.graph.twin import twin
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.tensors.signature import image_signature
from benchmarks.upstream_form import se_resnet50
from benchmarks.yolo_like import yolo_like

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "SE-ResNet50, 224x224": (se_resnet50, (3, 224, 224)),
    "YOLO-like, 640x640": (yolo_like, (3, 640, 640)),
}
OPSET = max(LOWEST_OPSET.values())


FORMS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "SiLU twin": lambda model: twin(model, "silu"),
    "AGLU, anl": decompose,
    "AGLU, softplus": lambda model: decompose(model, "softplus"),
}


def trace_network(network: nn.Module, shape: tuple[int, int, int]) -> onnx.ModelProto:
    """The canonical model of `network`, of an opset that has every precision."""
    return TorchNetwork(network, image_signature(shape), Metadata("network")).trace(OPSET).proto


def build_in_precision(
    proto: onnx.ModelProto,
    form: str,
    precision: str,
    sample: Sequence[int],
    folder: Path,
    capabilities: Sequence[str],
) -> Built:
    """The canonical `proto`, which is copied, as an engine for batches of 1 to 32."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    onnx.save(FORMS[form](in_precision(copy, precision)), folder / "model.onnx")
    job = Job(
        model=str(folder / "model.onnx"),
        engine=str(folder / "model.engine"),
        log=str(folder / "build.log"),
        sample_shape=tuple(sample),
        batches=(1, 8, 32),
        capabilities=capability_names(capabilities),
    )
    return build_in_child(job)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", nargs="+", choices=["fp32", *HALF_ELEMENT], default=["fp16", "bf16", "fp32"])
    parser.add_argument("--capability", nargs="*", default=[], help="e.g. 8.0 (default: portable)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (network, shape) in NETWORKS.items():
            proto = trace_network(network(), shape)
            for precision in options.precision:
                for form in FORMS:
                    one = build_in_precision(proto, form, precision, shape, Path(folder), options.capability)
                    rows.append({"network": name, "precision": precision, "form": form} | asdict(one))
    print(json.dumps(rows, indent=2) if options.json else table(rows))


def table(rows: Sequence[dict[str, object]]) -> str:
    """Markdown: one line an engine."""
    lines = ["| network | precision | activation | launches | engine, MB | build, s |", "| --- " * 6 + "|"]
    for row in rows:
        launches = sum(row["launches"].values())  # type: ignore[attr-defined]
        size, seconds = row["bytes"] / 1e6, row["seconds"]  # type: ignore[operator]
        names = f"| {row['network']} | {row['precision']} | {row['form']} "
        lines.append(f"{names}| {launches} | {size:.1f} | {seconds:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
