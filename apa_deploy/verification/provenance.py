"""What a candidate says of itself, in its metadata and its passport: its type, and whose weights it has."""

from __future__ import annotations

from ..errors import InputError
from ..records.passport import PassportError, file_record, passport_path, read_passport
from .record import ComparedSource
from .reference import ReferenceAnswer
from .signature import read_facts
from .source import COMPILED, ModelSource, SourceKind

_SHOWN = 12


class OtherWeightsError(InputError):
    """A candidate was made from another checkpoint. `name`, `theirs`, `ours`: sha256, or which weights."""

    def __init__(self, name: str, theirs: str, ours: str) -> None:
        super().__init__(
            f"different weights: {name} was made from {theirs}",
            f"{ours}, the reference",
            "Compare it with its own checkpoint, or pass --other-weights to compare all the same.",
        )
        self.name, self.theirs, self.ours = name, theirs, ours


def describe_source(source: ModelSource, precision: str | None = None) -> ComparedSource:
    """A source with its hash, number type and origin.

    Args:
        precision: what the user says of it; for engines without a passport.

    Raises:
        InputError: an ONNX file or a passport that cannot be read.
    """
    path = source.path
    if path is None:
        return ComparedSource(name=source.name, kind=source.kind, precision=precision or "fp32")
    compared = ComparedSource(
        name=source.name, kind=source.kind, file=file_record(path), precision=precision or "fp32"
    )
    if source.kind is SourceKind.ONNX:
        facts = read_facts(path)
        compared.precision, compared.source_sha256 = precision or facts.precision, facts.source_sha256
    if passport_path(path).exists():
        _read_passport(source, compared, precision)
    elif source.kind in COMPILED and precision is None:
        compared.notices.append("no passport names its number type: judged by the limits of fp32 (see --precision)")
    return compared


def _read_passport(source: ModelSource, compared: ComparedSource, precision: str | None) -> None:
    assert source.path is not None and compared.file is not None
    try:
        passport = read_passport(passport_path(source.path))
    except PassportError as error:
        compared.notices.append(f"its passport is damaged: {error.saw}")
        return
    if compared.file.sha256 not in {record.sha256 for record in passport.outputs}:
        compared.notices.append("it is not the file that its passport speaks of; the passport was not used")
        return
    if source.kind in COMPILED:
        compared.precision = precision or passport.options.get("precision", "fp32")
        compared.half_io = bool(passport.options.get("half_io"))
    if passport.inputs and not compared.source_sha256:
        compared.source_sha256 = passport.inputs[0].sha256
    compared.weights = passport.weights


def check_weights(candidate: ComparedSource, reference: ComparedSource, answer: ReferenceAnswer) -> None:
    """Refuse what was made from another checkpoint, or from other weights of the same one.

    Raises:
        OtherWeightsError: it was.
    """
    ours = {sha for sha in (answer.sha256, reference.source_sha256) if sha}
    if candidate.source_sha256 and ours and candidate.source_sha256 not in ours:
        theirs = f"a file with sha256 {candidate.source_sha256[:_SHOWN]}..."
        raise OtherWeightsError(candidate.name, theirs, f"sha256 {min(ours)[:_SHOWN]}...")
    if reference.kind == SourceKind.CHECKPOINT and candidate.weights not in ("", answer.weights):
        raise OtherWeightsError(
            candidate.name, f"the checkpoint's {candidate.weights!r} weights", repr(answer.weights)
        )
