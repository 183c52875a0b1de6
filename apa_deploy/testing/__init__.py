"""For users' own tests: `assert_parity(reference, candidate)`, and the same as a pytest fixture."""

from __future__ import annotations

import inspect
import re
import tempfile
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from ..verification.record import Verification

    Compared = str | Path | nn.Module
    Inputs = str | Path | np.ndarray | Mapping[str, np.ndarray]

_WIDTH = 160


class ParityAssertionError(AssertionError):
    """A candidate is not right; the message is the table of `apa-verify`. `verification`: all of it as data."""

    def __init__(self, verification: Verification, table: str) -> None:
        super().__init__(f"\n{table}")
        self.verification = verification


def assert_parity(
    reference: Compared,
    *candidates: Compared,
    inputs: Inputs | None = None,
    input_shape: tuple[int, ...] | None = None,
    max_rel: float | None = None,
    max_abs: float | None = None,
    min_agreement: float | None = None,
    per_layer: bool = False,
    batch: int | None = None,
    runners: tuple[str, ...] = ("onnxruntime",),
    timeout: float = 600.0,
    **loading: Any,
) -> Verification:
    """Fail unless every candidate is as right as its number type allows, beside `reference` in float64.

    Args:
        reference: checkpoint, .onnx file, "package.module:factory", or a float32 torch module in eval mode.
        candidates: the same, or engines. With torch modules all runs in this process, else each in its own.
        inputs: an .npz file, a folder of images, "package.module:function", an array (N, ...), or arrays by
            name (true classes as "labels"); None: seeded, of `input_shape`.
        input_shape: (C, H, W) of one sample, where it is not known.
        max_rel: limit of the largest error, relative to the largest reference; None: derived, as for the next two.
        max_abs: limit of the largest error.
        min_agreement: least share of samples with the same first class.
        per_layer: measure each activation and each piece between them as well.
        batch: how many samples run at once; None: what a candidate fixes, or else all.
        runners: what runs .onnx candidates, as `--runner` names it.
        timeout: seconds for each candidate.
        loading: further arguments of `apa_deploy.load`, e.g. `model="package.module:factory"`.

    Returns:
        The verification, with every figure.

    Raises:
        ParityAssertionError: a candidate is not right, or could not be judged.
        ApaError: the reference or the inputs cannot be used.
    """
    from ..errors import ApaError
    from ..verification.limits import Given
    from ..verification.run import Options, verify_candidates
    from ..verification.source import Loading

    sources = [_source(one) for one in (reference, *candidates)]
    with tempfile.TemporaryDirectory(prefix="apa-") as folder:
        options = Options(
            loading=Loading(arguments=loading, input_shape=input_shape),
            inputs=_save(inputs, Path(folder)),
            batch=batch,
            limits=Given(max_abs, max_rel, min_agreement),
            per_layer=per_layer,
            runners=runners,
            timeout=timeout,
            isolate=all(source.live is None for source in sources),
        )
        try:
            verification = verify_candidates(sources[0], sources[1:], options).verification
        except ApaError as error:
            error.args = error.saw, error.wanted, error.do = tuple(
                _as_arguments(part) for part in (error.saw, error.wanted, error.do)
            )
            raise
    if not verification.passed:
        raise ParityAssertionError(verification, _as_arguments(table_of(verification)))
    return verification


def table_of(verification: Verification) -> str:
    """What `apa-verify` prints."""
    from ..terminal import Terminal
    from ..verification.show import show

    text = StringIO()
    show(Terminal(file=text, width=_WIDTH), verification)
    return text.getvalue()


def _as_arguments(text: str) -> str:
    """A message of `apa-verify` for those who call a function: `--max-rel` is `max_rel=` here."""
    from ..loading.load import load

    known = {*inspect.signature(assert_parity).parameters, *inspect.signature(load).parameters}

    def argument(match: re.Match[str]) -> str:
        name = match[1].replace("-", "_")
        return f"{name}=" if name in known else f"apa-verify {match[0]}"

    return re.sub(r"(?<![\w-])--([a-z]+(?:-[a-z0-9]+)*)", argument, text)


def _source(given: Compared) -> Any:
    from torch import nn

    from ..verification.source import ModelSource, SourceKind, source_of

    if isinstance(given, nn.Module):
        return ModelSource(text=type(given).__name__, kind=SourceKind.MODULE, live=given)
    return source_of(str(given))


def _save(inputs: Inputs | None, folder: Path) -> str | None:
    if inputs is None or isinstance(inputs, str | Path):
        return None if inputs is None else str(inputs)
    import numpy as np

    arrays = dict(inputs) if isinstance(inputs, Mapping) else {"input": inputs}
    np.savez(folder / "inputs.npz", **arrays)  # type: ignore[arg-type]
    return str(folder / "inputs.npz")
