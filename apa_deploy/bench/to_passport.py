"""Latency into the passport beside an artifact."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..files import replace_file, sha256
from ..records.benchmark import BenchResult, LatencyRecord
from ..records.passport import Passport, dump, now, passport_path, read_passport


def check_passport(artifact: Path) -> Passport:
    """The passport of `artifact`, which has not changed since: call it before long work.

    Raises:
        PassportError: there is none, or it is damaged.
        InputError: it belongs to other bytes.
    """
    passport = read_passport(passport_path(artifact))
    if sha256(artifact) not in {record.sha256 for record in passport.outputs}:
        saw = f"{artifact.name}, which its passport does not know"
        raise InputError(saw, "the file as it was exported", "Export it again, or leave --passport out.")
    return passport


def add_latency(artifact: Path, result: BenchResult) -> None:
    """Put the series of `artifact`, raw samples and all, into its passport."""
    passport, digest = check_passport(artifact), sha256(artifact)
    names = {one.name for one in result.series if one.sha256 == digest}
    passport.latency = LatencyRecord(
        created=now(),
        series=[one for one in result.series if one.name in names],
        comparisons=[one for one in result.comparisons if one.name in names],
        environment=result.environment,
    )
    with replace_file(passport_path(artifact), force=True) as temporary:
        temporary.write_text(dump(passport), encoding="utf-8")
