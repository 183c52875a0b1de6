"""What TensorRT for RTX cannot build, refused by name before the build. Seen in 1.7.1."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto

from apa_deploy.choices import FP8
from apa_deploy.errors import InputError, MissingError
from apa_deploy.graph.values import ranks_and_types
from apa_deploy.require import require
from apa_deploy.runtimes.cuda_driver import device_count

FORMAT = "--format trt-rtx"
DISTRIBUTION = "tensorrt-rtx-cu13"
TURING = "7.5"
FIRST_WITH_FP8 = (8, 9)


class TargetError(InputError):
    """The builder cannot do this pair. `option`, `value`: what was asked for."""

    def __init__(self, option: str, value: str, saw: str, wanted: str, do: str) -> None:
        super().__init__(f"{option} {value}{saw}", wanted, do)
        self.option, self.value = option, value


def capability_names(capabilities: Sequence[str]) -> tuple[str, ...]:
    """The builder's names: "8.6" is SM86."""
    return tuple("SM" + capability.replace(".", "") for capability in capabilities)


def check_options(
    batches: tuple[int, int, int], capabilities: Sequence[str], strip_weights: bool, precision: str
) -> None:
    """Refuse what cannot be built, before long work.

    Raises:
        MissingError: tensorrt_rtx is absent; or weights are to be stripped where no GPU is.
        TargetError: an option, or a pair of them, that the builder does not take.
    """
    trt = require("tensorrt_rtx")
    least, usual, largest = batches
    if not 1 <= least <= usual <= largest:
        given = ":".join(map(str, batches))
        raise TargetError("--batch", given, "", "1 <= MIN <= OPT <= MAX", "Give e.g. --batch 1:8:32.")
    known = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    for capability, name in zip(capabilities, capability_names(capabilities), strict=True):
        if name not in known:
            wanted = ", ".join(f"{n[2:-1]}.{n[-1]}" for n in known)
            raise TargetError(_OPTION, capability, "", wanted, "TensorRT for RTX builds for GeForce and RTX GPUs.")
    if precision == "bf16" and TURING in capabilities:
        raise TargetError(_OPTION, TURING, " with --precision bf16", "fp16", "Turing has no bfloat16: take fp16.")
    too_old = [c for c in capabilities if tuple(map(int, c.split("."))) < FIRST_WITH_FP8]
    if precision == FP8 and (too_old or not capabilities):
        saw = f" with --precision {FP8}"
        wanted = "8.9 or later: the first with float8"
        raise TargetError(_OPTION, ",".join(too_old) or "left out", saw, wanted, f"Give e.g. {_OPTION} 8.9,12.0.")
    if strip_weights and not device_count():
        raise MissingError(
            "--strip-weights on a machine without an NVIDIA GPU",
            "a GPU: the builder compiles engines that can be refitted with its driver",
            "Export there, or without --strip-weights.",
        )


def check_graph(model: onnx.ModelProto, capabilities: Sequence[str]) -> None:
    """Refuse operators that a target lacks.

    Raises:
        InputError: NonMaxSuppression, which is parsed and not built.
        TargetError: float32 matrix products for Turing.
    """
    for node in model.graph.node:
        if node.op_type == "NonMaxSuppression":
            saw = f"{FORMAT} with NonMaxSuppression ({node.name})"
            do = "Take --format trt, or export the network without it."
            raise InputError(saw, "operators that TensorRT for RTX implements", do)
    if TURING not in capabilities:
        return
    known = ranks_and_types(model)
    for node in model.graph.node:
        element = known.get(node.input[0], (None, 0))[1] if node.input else 0
        if node.op_type in ("Gemm", "MatMul") and element == TensorProto.FLOAT:
            saw = f" with float32 matrix products ({node.name})"
            raise TargetError(_OPTION, TURING, saw, "--precision fp16", "Turing multiplies matrices in fp16 only.")


_OPTION = "--compute-capability"
