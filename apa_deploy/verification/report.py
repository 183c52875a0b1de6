"""A verification as a report: one page, Markdown or JSON."""

from __future__ import annotations

from collections.abc import Iterator

from ..report.record import Compared, KeyFigure, Limit, Report, ReportVerdict, Table
from ..report.wording import exact
from .record import Candidate, Verification
from .show import factory_hint, gates_of, verdict_sentence, wrong_activations


def verification_report(verification: Verification) -> Report:
    """Everything that the verification found."""
    candidates, reference = verification.candidates, verification.reference
    names = ", ".join(candidate.name for candidate in candidates)
    return Report(
        title=f"{names} against {reference.name}",
        verdict=_verdict(verification),
        figures=list(_figures(verification)),
        compared=[
            Compared(role="reference", name=reference.name, runtime="float64", file=reference.file),
            *(_list_compared(candidate) for candidate in candidates),
        ],
        outputs=[verdict.check for candidate in candidates for verdict in candidate.outputs],
        limits=[_limit(candidate, limit, v.check.name) for candidate in candidates for v in candidate.outputs[:1]
                for limit in v.limits],
        activation_errors=[error for candidate in candidates for error in candidate.layers],
        accuracy=[*verification.accuracy, *(a for candidate in candidates for a in candidate.accuracy)],
        curves=verification.curves,
        detected=verification.detected,
        tables=[_gates(candidates)] if any(c.activations for c in candidates) else [],
        versions=verification.versions,
        sources=[reference.file] if reference.file else [],
        options={"inputs": verification.inputs.said, "samples": verification.inputs.samples,
                 "inputs sha256": verification.inputs.sha256},
        commands=[verification.command] if verification.command else [],
        notes=[f"{candidate.name}: {text}" for candidate in candidates for text in candidate.notices],
    )  # fmt: skip


def _verdict(verification: Verification) -> ReportVerdict:
    return ReportVerdict(
        status="passed" if verification.passed else "failed",
        summary=verdict_sentence(verification),
        reasons=[
            *(reason for candidate in verification.candidates for reason in _reasons(candidate)),
            *([hint.removeprefix("note: ") + "."] if (hint := factory_hint(verification)) else []),
        ],
    )


def _reasons(candidate: Candidate) -> Iterator[str]:
    if candidate.failure:
        yield f"{candidate.name} was not judged: {candidate.failure.saw}; wanted {candidate.failure.wanted}."
    for verdict in candidate.failed_outputs:
        yield f"{verdict.check.runner}, {verdict.check.name}: {'; '.join(verdict.failures)}."
    for gate, checks in gates_of(candidate):
        if wrong := wrong_activations(gate, checks):
            yield f"{candidate.name}, {wrong}."


def _figures(verification: Verification) -> Iterator[KeyFigure]:
    for candidate in verification.candidates:
        checks = [verdict.check for verdict in candidate.outputs]
        if checks:
            worst = max(checks, key=lambda check: check.max_rel / max(check.limit, 1e-300))
            share = worst.max_rel / max(worst.limit, 1e-300)
            yield KeyFigure(label="largest error / limit", value=f"{share:.2f}", note=worst.runner)


def _list_compared(candidate: Candidate) -> Compared:
    runtime = ", ".join(v.check.runner.removeprefix(f"{candidate.name}: ") for v in candidate.outputs)
    return Compared(
        role="candidate", name=candidate.name, runtime=runtime, file=candidate.file, note=candidate.precision
    )


def _limit(candidate: Candidate, limit: Limit, output: str) -> Limit:
    return limit.model_copy(update={"name": f"{candidate.name}, {output}: {limit.name}"})


def _gates(candidates: list[Candidate]) -> Table:
    rows = []
    for candidate in candidates:
        for gate, checks in gates_of(candidate):
            worst = max(checks, key=lambda check: check.max_error / check.limit)
            rows.append(
                [candidate.name, gate, str(len(checks)), worst.path, exact(worst.max_error), exact(worst.limit)]
            )
    headers = ["candidate", "gate", "activations", "worst", "its error", "limit"]
    note = "Each activation alone: on a grid over both tails, and on every number of the type (65,536 of float32)"
    return Table(title="Activations alone", headers=headers, rows=rows, note=note)
