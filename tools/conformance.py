"""onnx's own node cases through the float64 evaluation that verification rests on: `make conformance`.

Writes docs/conformance.md. With --check it only compares: exit 1 where fewer cases pass than the page says, or a
case that does not pass has no reason in the table below.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from apa_deploy.graph.evaluator import make_evaluator
from apa_deploy.graph.widen import widen as widen_graph
from apa_deploy.loading.onnx_file import repair_model

PAGE = Path(__file__).parents[1] / "docs" / "conformance.md"
# Expected values were computed in the type of the output; half a dozen roundings in it are allowed.
TOLERANCE = {"float16": 1e-2, "bfloat16": 5e-2}
USUAL = 1e-3
# Why a case does not pass: the first pattern that its name matches.
REASONS = {
    "random": r"bernoulli|test_dropout|multinomial|random",
    "reads the bits of a float32, which a float64 has not": r"bitcast",
    "8, 4 or 2 bits: rounding to them is the operator, and is done from float64 instead of float32": r"quantize",
    "a training operator, of a domain without a network": r"adagrad|adam|momentum|nesterov|test_gradient",
    "a sequence or an optional at an end, which no artifact here takes": r"sequence|optional|if_opt|if_seq",
    "resized as ONNX Runtime does, whose size of the output differs": r"resize.*align_corners",
    "an absent initial state of a loop": r"scan_sum",
    "no graph of the standard operators": r"ai_onnx_ml",
}


def main() -> int:
    """Run every case; write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with docs/conformance.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with np.errstate(all="ignore"):
        outcomes = dict(run_cases())
    unexplained = [f"{name}: {why}" for name, why in outcomes.items() if why and not reason_of(name)]
    print("\n".join(unexplained) or "every case that does not pass has a reason")
    passed = sum(not why for why in outcomes.values())
    if not options.check:
        PAGE.write_text(page(outcomes), encoding="utf-8")
        print(f"{passed} of {len(outcomes)} pass: {PAGE.name} written")
        return bool(unexplained)
    before = int(re.search(r"\*\*(\d+)\*\*", PAGE.read_text(encoding="utf-8"))[1])  # type: ignore[index]
    print(f"{passed} of {len(outcomes)} pass; {PAGE.name} says {before}")
    return passed < before or bool(unexplained)


def run_cases() -> Iterator[tuple[str, str]]:
    """(name, why it does not pass, or "") of every case."""
    for case in collect_testcases(None):
        yield case.name, _outcome(case)


def _outcome(case: Any) -> str:
    names = [value.name for value in case.model.graph.input]
    try:
        evaluator = make_evaluator(widen_graph(repair_model(case.model)[0]))
        for inputs, wanted in case.data_sets:
            feed = {name: widen(value) for name, value in zip(names, inputs, strict=False)}
            if not all(map(agree, evaluator.run(None, feed), wanted)):
                return "another value"
    except Exception as error:  # noqa: BLE001 (whatever the evaluator raises is an outcome)
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
    return ""


def widen(value: Any) -> Any:
    """Floats of any width as float64; lists of them likewise."""
    if isinstance(value, list):
        return [widen(one) for one in value]
    array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
    array = np.asarray(array) if isinstance(array, np.generic) else array
    wide = isinstance(array, np.ndarray) and array.dtype in (np.float16, np.float32, ml_dtypes.bfloat16)
    return array.astype(np.float64) if wide else array


def agree(value: Any, wanted: Any) -> bool:
    """Within the roundings of the type that the case was computed in."""
    if isinstance(wanted, list | tuple):
        return len(value) == len(wanted) and all(map(agree, value, wanted))
    if wanted is None:
        return value is None
    wanted = numpy_helper.to_array(wanted) if isinstance(wanted, onnx.TensorProto) else np.asarray(wanted)
    value, limit = np.asarray(value), TOLERANCE.get(str(wanted.dtype), USUAL)
    if value.shape != wanted.shape:
        return False
    if wanted.dtype.kind in "OSU":
        return bool((value.astype(str) == wanted.astype(str)).all())
    wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
    return bool(np.allclose(value.astype(wide), wanted.astype(wide), limit, limit * 1e-2, equal_nan=True))


def reason_of(name: str) -> str:
    """Why the case of this name may not pass, or ""."""
    return next((reason for reason, pattern in REASONS.items() if re.search(pattern, name)), "")


def page(outcomes: dict[str, str]) -> str:
    """docs/conformance.md."""
    passed = sum(not why for why in outcomes.values())
    failing: dict[str, list[str]] = {}
    for name, why in outcomes.items():
        if why:
            failing.setdefault(reason_of(name) or f"not explained: {why}", []).append(name)
    rows = [f"| {reason} | {len(names)} | {', '.join(n.removeprefix('test_') for n in names)} |"
            for reason, names in sorted(failing.items())]  # fmt: skip
    operators = Counter(re.sub(r"_expanded$", "", name).split("_")[1] for name in outcomes)
    return f"""# Conformance of the float64 evaluation

An `.onnx` file is its own reference: it is evaluated in float64, and what apa-export writes is compared with that.
The evaluation is onnx's reference evaluator with operators of ours (`apa_deploy/graph/reference_operators.py`).
Here it runs onnx's own node cases, every float widened to float64 as in a verification; what onnx expects was
computed in float32 or a half type.

**{passed}** of {len(outcomes)} cases pass (onnx {onnx.__version__}, {len(operators)} operators), by
`make conformance`, which writes this page. `tests/tools/test_conformance.py` fails when the number falls, or when a
case fails without a reason.

| why a case does not pass | cases | which |
| --- | ---: | --- |
{chr(10).join(rows)}
"""


if __name__ == "__main__":
    sys.exit(main())
