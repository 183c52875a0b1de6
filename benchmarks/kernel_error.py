"""Draw the error of each kernel by z and lambda, and write docs/kernel_error.png.

    python -m benchmarks.kernel_error            needs matplotlib: pip install 'apa-deploy[report]'

Colour: the largest error of APA(z) in a cell. Of `exact` and `acc` in units of the last place times (2 + |log2
APA(z)|), which the contract bounds by 2 to 3; of `pw` in units of 2^-23, bounded by 1 (plugins/include/apa/math.h).
Where its table would not keep that, it is `acc` that answers `pw`'s name. Float32 beside float64.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

import apa_deploy
from apa_deploy.graph.node import make_node
from apa_deploy.maths import Parameters

KERNELS = ("exact", "acc", "pw")
BOUND = {"exact": 3.0, "acc": 3.0, "pw": 1.0}  # the ends of the colours
LAMBDAS = np.concatenate([[0.0], np.logspace(-8, 4, 73)]).astype(np.float32)
CELLS, SAMPLES = 160, 60
Z = np.linspace(-24, 24, CELLS * SAMPLES, dtype=np.float32)


def model() -> onnx.ModelProto:
    """x -> one gate for each lambda, kappa 1."""
    nodes = [
        make_node("APA", "x", f"y{i}", Parameters((float(v),), (1.0,)), f"l{i}") for i, v in enumerate(LAMBDAS)
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])
    outputs = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, ["N"]) for i in range(len(LAMBDAS))]
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    return helper.make_model(helper.make_graph(nodes, "g", [x], outputs), opset_imports=domains, ir_version=8)


def log_gate(lambda_: float) -> np.ndarray:
    """ln APA at Z in float64."""
    z = Z.astype(np.float64)
    return -np.logaddexp(0, np.log(lambda_) - z) / lambda_ if lambda_ > 0 else -np.exp(-z)


def scale_error(got: np.ndarray, lambda_: float, kernel: str) -> np.ndarray:
    """The largest of each cell; NaN where the gate is subnormal or nearly: kernels give 0 there."""
    logarithm = log_gate(lambda_)
    truth = np.exp(logarithm)
    if kernel == "pw":
        return np.fmax.reduce(np.abs(got.astype(np.float64) - truth).reshape(CELLS, SAMPLES) * 2**23, axis=1)
    ulp = np.exp2(np.maximum(np.floor(logarithm / np.log(2)), -126) - 23)
    scaled = np.abs(got.astype(np.float64) - truth) / ulp / (2 - logarithm / np.log(2))
    scaled[truth < 1.001 * 2.0**-126] = np.nan
    return np.fmax.reduce(scaled.reshape(CELLS, SAMPLES), axis=1)


def errors(path: Path, kernel: str) -> np.ndarray:
    """[lambda, cell of z]."""
    with apa_deploy.Session(path, kernel=kernel) as session:
        outputs = session.run({"x": Z})
    return np.stack([scale_error(outputs[f"y{i}"], float(v), kernel) for i, v in enumerate(LAMBDAS)])


def draw(found: dict[str, np.ndarray], target: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(11, 3.6), sharey=True, constrained_layout=True)
    for axis, (kernel, values) in zip(axes, found.items(), strict=True):
        image = axis.imshow(
            values, origin="lower", aspect="auto", extent=(-24, 24, 0, len(LAMBDAS)), vmin=0, vmax=BOUND[kernel]
        )
        if kernel != "exact":  # which has the scale of acc
            figure.colorbar(image, ax=axis, label="|error| / 2^-23" if kernel == "pw" else "ulp / (2 + |log2 APA|)")
        axis.set(title=f"{kernel}: at most {np.nanmax(values):.2f}", xlabel="kappa*z")
        axis.set_yticks([0.5, *range(13, len(LAMBDAS), 12)], ["0", *(f"1e{p}" for p in range(-6, 5, 2))])
    axes[0].set_ylabel("lambda")
    figure.savefig(target, dpi=100, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(__file__).resolve().parents[1] / "docs/kernel_error.png"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model(), path)
        found = {kernel: errors(path, kernel) for kernel in KERNELS}
    draw(found, options.output)
    for kernel, values in found.items():
        print(f"{kernel} (APA_MAX_ISA={os.environ.get('APA_MAX_ISA', '')}): {np.nanmax(values):.3f}")


if __name__ == "__main__":
    main()
