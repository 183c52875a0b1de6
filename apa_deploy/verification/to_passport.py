"""Parity into the passport beside an artifact: what a verification on the target machine adds."""

from __future__ import annotations

from pathlib import Path

from ..bench.to_passport import check_passport
from ..files import replace_file
from ..records.parity import ParityReport
from ..records.passport import dump, passport_path
from .record import Candidate, Verification


def add_parity(artifact: Path, candidate: Candidate, verification: Verification) -> None:
    """Put the checks of `candidate`, which is `artifact`, into its passport, in place of those it holds.

    Raises:
        InputError: there is no passport, or it belongs to other bytes.
    """
    passport, inputs = check_passport(artifact), verification.inputs
    passport.parity = ParityReport(
        passed=candidate.passed,
        verdict="passed" if candidate.passed else "failed",
        inputs=f"{inputs.said}, {inputs.samples} samples, sha256 {inputs.sha256}",
        runtime=", ".join(f"{name} {version}" for name, version in verification.versions.items()),
        outputs=[verdict.check for verdict in candidate.outputs],
        activations=[*candidate.activations, *candidate.kernels],
    )
    with replace_file(passport_path(artifact), force=True) as temporary:
        temporary.write_text(dump(passport), encoding="utf-8")
