"""A model made ready once for the machine that runs it.

Activations of a float32 model stay in ONNX Runtime's blocked layout; those of a model with explicit Q/DQ become
tables in its channels-last one (`graph/layout/coded.py`).

`prepared(path)` is called for every session on the CPU. It answers with a file from the cache, made where it is
missing, or with None: then the model runs as it is, right but slower.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import onnx
import onnxruntime as ort

from .. import __version__
from ..escaping import printable
from ..files import sha256
from ..graph.layout.coded import is_coded, swap_coded, with_coded_placeholders
from ..graph.layout.placeholders import PlaceholderPlan, with_placeholders
from ..graph.layout.swap import BlockedLayoutError, swap_placeholders
from ..graph.node import activations
from ..graph.read import read_graph
from ..graph.values import external_files
from ..native import ort_library
from ..progress import step
from . import cache as store
from .agreement import check_agreement, check_coded_agreement
from .blocking import blocking, optimise_to
from .processor import REDUCED_KEY, saturates

_VARIABLE = "APA_LAYOUT"
_FORM = 3  # counts up with every change of what a prepared model looks like
_LARGEST = (1 << 31) - (1 << 24)  # bytes; a protobuf ends at 2 GiB


def prepare_model(path: Path, wanted: bool | None) -> Path | None:
    """The prepared model of `path`, to be loaded with our operators registered and optimisation off.

    Args:
        wanted: whether to prepare; None: unless the environment says APA_LAYOUT=0.

    Never raises: what stands in the way is said once, and the answer is None.
    """
    if not (os.environ.get(_VARIABLE) != "0" if wanted is None else wanted):
        return None
    try:
        model = read_graph(path)
        if not _worthwhile(model):
            return None
        warn_of_saturation(path.name, model)
        return _find_or_make(path, _key(path, model), coded=is_coded(model))
    except Exception as error:  # noqa: BLE001 - a session must come up whatever an optimiser or a disk does
        _notice(f"{path.name}: {error}")
        return None


def _worthwhile(model: onnx.ModelProto) -> bool:
    convolves = any(node.op_type == "Conv" for node in model.graph.node)
    return is_coded(model) or (convolves and any(activations(model.graph)))


def _key(path: Path, model: onnx.ModelProto) -> str:
    """Everything that the prepared model depends on."""
    files = [path, *(path.parent / name for name in external_files(model)), ort_library()]
    parts = [*map(sha256, files), ort.__version__, str(blocking()), __version__, str(_FORM)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _find_or_make(path: Path, key: str, *, coded: bool) -> Path | None:
    if found := store.find(key):
        return found
    if coded:
        with step(f"Preparing {path.name} for this machine, once") if sys.stderr.isatty() else nullcontext():
            return _make_coded(path, key)
    block = blocking()
    if block.size == 1:
        return None
    if not block.kept:
        raise BlockedLayoutError(f"ONNX Runtime {ort.__version__} leaves its blocked layout at activations")
    with step(f"Preparing {path.name} for this machine, once") if sys.stderr.isatty() else nullcontext():
        return _make(path, key, block.size)


def _make(path: Path, key: str, block: int) -> Path | None:
    with store.workplace() as folder:
        plan = _write_placeholders(path, folder / "placeholders.onnx")
        optimise_to(str(folder / "placeholders.onnx"), folder / "optimised.onnx", ort_library())
        model = read_graph(folder / "optimised.onnx", weights=True)
        if not swap_placeholders(model, plan, block):
            return None
        onnx.save(model, folder / "prepared.onnx")
        del model
        check_agreement(path, folder / "prepared.onnx", ort_library())
        return store.keep(key, folder / "prepared.onnx")


def _make_coded(path: Path, key: str) -> Path | None:
    """With gated sums taken in; where ONNX Runtime lays one out in another way, without."""
    try:
        return _prepare_coded(path, key, gated=True)
    except BlockedLayoutError:
        return _prepare_coded(path, key, gated=False)


def _prepare_coded(path: Path, key: str, *, gated: bool) -> Path | None:
    with store.workplace() as folder:
        model = read_graph(path, weights=True)
        plan = with_coded_placeholders(model, gated=gated)
        if not plan.slots:
            return None
        onnx.save(model, folder / "placeholders.onnx")
        optimise_to(str(folder / "placeholders.onnx"), folder / "optimised.onnx", ort_library())
        model = read_graph(folder / "optimised.onnx", weights=True)
        swap_coded(model, plan)
        onnx.save(model, folder / "prepared.onnx")
        check_coded_agreement(path, folder / "prepared.onnx", ort_library())
        return store.keep(key, folder / "prepared.onnx")


def warn_of_saturation(name: str, model: onnx.ModelProto) -> None:
    """Say once that 8-bit weights saturate here, where the file says that it has such and the processor is one."""
    told = next((p.value for p in model.metadata_props if p.key == REDUCED_KEY), None)
    if told == "false" and saturates():
        _warn(f"{name} has weights of 8 bits, whose sums saturate on this processor. Export with --reduce-range.")


@cache
def _warn(text: str) -> None:
    print(f"apa-deploy: {text}", file=sys.stderr)


def _write_placeholders(path: Path, target: Path) -> PlaceholderPlan:
    model = read_graph(path, weights=True)
    plan = with_placeholders(model)
    if model.ByteSize() > _LARGEST:
        raise BlockedLayoutError("the model has more than 2 GB")
    onnx.save(model, target)
    return plan


@cache
def _notice(reason: str) -> None:
    advice = f"The model runs in the plain layout; {_VARIABLE}=0 silences this."
    print(printable(f"apa-deploy: {reason}. {advice}"), file=sys.stderr)
