"""The repository's own smoke test: one request and what must come back, as files that `smoke-test` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apa_deploy.tensors.datatypes import of_array
from apa_deploy.tensors.signature import TensorSpec

FILE = "smoke-test.json"

# Of an output's largest value. A GPU's TF32 rounds the factors of each product to 2^-11, as fp16 rounds everything
# (bf16: to 2^-8), which tens of layers let grow some tenfold; a wrong network or pixel order is off by far more.
# In 8 bits another processor's sums round to other codes: 25 dB, the least that is exported, is 0.06 of the root
# mean square; four times that is allowed.
_TOLERANCE = {"fp32": 0.02, "fp16": 0.05, "bf16": 0.2, "int8": 0.25, "fp8": 0.25}


def write_smoke_test(
    root: Path,
    model: str,
    inputs: dict[str, Any],
    specs: Sequence[TensorSpec],
    outputs: dict[str, np.ndarray] | None,
    precision: str,
) -> None:
    """Write the description and the data below `root`.

    Args:
        inputs: arrays as they are sent; those of dtype object hold bytes.
        specs: of the outputs, with the batch in front where the model batches.
        outputs: what must come back; None: only shapes are judged.
    """
    folder = root / model / "smoke"
    folder.mkdir(parents=True, exist_ok=True)
    sent = [_write(root, folder / f"input{at}", *pair) for at, pair in enumerate(inputs.items())]
    wanted = []
    for at, spec in enumerate(specs):
        record = {"name": spec.name, "datatype": spec.datatype.name, "shape": list(spec.declared), "file": None}
        if outputs is not None:
            array = outputs[spec.name]  # Triton gives one number a row a size of its own
            record = _write(root, folder / f"output{at}", spec.name, array[:, None] if array.ndim == 1 else array)
        wanted.append(record | {"tolerance": _TOLERANCE[precision]})
    judged = "right" if outputs is not None else "shapes are right; values were not judged"
    document = {"model": model, "inputs": sent, "outputs": wanted, "judged": judged}
    (root / FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def raw(array: np.ndarray) -> bytes:
    """The array as the protocol sends it: little endian, each string behind its length."""
    if array.dtype.kind == "O":
        return b"".join(len(text).to_bytes(4, "little") + text for text in array.reshape(-1))
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _write(root: Path, path: Path, name: str, array: np.ndarray) -> dict[str, Any]:
    path.write_bytes(raw(array))
    datatype = of_array(array).name
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "file": str(path.relative_to(root))}
