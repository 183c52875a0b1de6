"""A verification for people: what was compared, each limit with its derivation, every error beside its limit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ..parity.report import ActivationCheck
from ..report.record import Accuracy, ActivationError
from .layers import ranked
from .record import Candidate, Verification

_WORST = 12


def show(console: Console, verification: Verification) -> None:
    """Print all of it."""
    inputs = verification.inputs
    console.print(
        f"reference: {verification.reference.name} in float64; inputs: {inputs.said}, {inputs.samples} samples"
    )
    for candidate in verification.candidates:
        _show_candidate(console, candidate)
    _show_accuracy(console, [*verification.accuracy, *(a for c in verification.candidates for a in c.accuracy)])
    console.print(f"{'passed' if verification.passed else 'FAILED'}: {sentence(verification)}")


def sentence(verification: Verification) -> str:
    """The verdict in one."""
    count, good = len(verification.candidates), sum(c.passed for c in verification.candidates)
    return f"{good} of {count} as right as their number type allows"


def gates_of(candidate: Candidate) -> list[tuple[str, list[ActivationCheck]]]:
    """The gates that judged activations alone, by name."""
    gates = [("operator", candidate.activations), ("kernel", candidate.kernels)]
    return [(name, checks) for name, checks in gates if checks]


def _show_candidate(console: Console, candidate: Candidate) -> None:
    console.print(f"\n{candidate.name}: {candidate.kind}, {candidate.precision}")
    for text in candidate.notices:
        console.print(f"note: {text}")
    if candidate.failure:
        failure = candidate.failure
        console.print(f"NOT VERIFIED: {failure.saw}; wanted {failure.wanted}. {failure.do}")
    if candidate.outputs:
        _show_outputs(console, candidate)
    _show_activations(console, candidate)
    if candidate.layers:
        _show_layers(console, candidate.layers)


def _show_outputs(console: Console, candidate: Candidate) -> None:
    table = Table("output", "runner", "max rel", "limit", "max abs", "cosine", "top-1 same", "verdict")
    for verdict in candidate.outputs:
        check = verdict.check
        top1 = "-" if check.top1_agreement is None else f"{check.top1_agreement:.2%}"
        runner = check.runner.removeprefix(f"{candidate.name}: ")
        table.add_row(
            check.name, runner, f"{check.max_rel:.1e}", f"{check.limit:.1e}", f"{check.max_abs:.1e}",
            f"{check.cosine:.9f}", top1, "; ".join(verdict.failures) or "passed",
        )  # fmt: skip
    console.print(table)
    for text in dict.fromkeys(
        f"{v.check.name}: {m.name} {m.value:.3g} = {m.derivation}" for v in candidate.outputs for m in v.limits
    ):
        console.print(f"limit of {text}")


def _show_activations(console: Console, candidate: Candidate) -> None:
    for gate, checks in gates_of(candidate):
        worst = max(checks, key=lambda check: check.max_error / check.limit)
        wrong = [check for check in checks if not check.passed]
        console.print(
            f"{gate} gate: {len(checks)} activations alone, at most {worst.max_error:.1e} off ({worst.path}), "
            f"limit {worst.limit:.1e}: {'passed' if not wrong else f'{len(wrong)} FAILED'}"
        )
        for check in wrong[:_WORST]:
            console.print(f"  {check.path} ({check.kind}) is {check.max_error:.1e} off")


def _show_layers(console: Console, layers: Sequence[ActivationError]) -> None:
    table = Table(
        "place", "what", "adds", "predicted", "limit", "verdict", title="error that each piece adds, relative"
    )
    for error in ranked(layers)[:_WORST]:
        predicted = "-" if error.predicted is None else f"{error.predicted:.1e}"
        verdict = "" if error.passed or not error.limit else f"{error.measured / error.limit:.0f} times its limit"
        table.add_row(
            error.path, error.kind, f"{error.measured:.1e}", predicted, f"{error.limit or 0:.1e}", verdict
        )
    console.print(table)
    left = len(layers) - _WORST
    if left > 0:
        console.print(f"and {left} smaller ones (--json lists all)")


def _show_accuracy(console: Console, accuracies: Sequence[Accuracy]) -> None:
    if not accuracies:
        return
    table = Table("runner", "group", "samples", "top-1", "top-5", title="accuracy")
    for a in accuracies:
        top5 = "-" if a.top5 is None else f"{a.top5:.2%}"
        table.add_row(a.runner, a.group, str(a.samples), f"{a.top1:.2%}", top5)
    console.print(table)
