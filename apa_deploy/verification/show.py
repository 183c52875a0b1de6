"""A verification for people: what was compared, each limit with its derivation, every error beside its limit."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.parity import ActivationCheck, explain_activation, gain_line
from ..report.record import Accuracy, ActivationError
from ..report.wording import list_names, times
from ..terminal import Terminal
from .layers import rank_errors
from .record import Candidate, Verification

_WORST = 12


def show(console: Terminal, verification: Verification) -> None:
    """Print all of it."""
    inputs = verification.inputs
    console.print(
        f"reference: {verification.reference.name} in float64; inputs: {inputs.said}, {inputs.samples} samples"
    )
    for candidate in verification.candidates:
        _show_candidate(console, candidate)
    if hint := factory_hint(verification):
        console.print(hint)
    _show_accuracy(console, [*verification.accuracy, *(a for c in verification.candidates for a in c.accuracy)])
    console.print(f"{'passed' if verification.passed else 'FAILED'}: {verdict_sentence(verification)}")


def verdict_sentence(verification: Verification) -> str:
    """The verdict in one."""
    count, wrong = len(verification.candidates), [c for c in verification.candidates if not c.passed]
    if wrong and count == 1:
        return f"{wrong[0].name} {'is not right' if wrong[0].outputs else 'was not judged'}"
    if wrong:
        return f"{len(wrong)} of {count} failed: {list_names([c.name for c in wrong])}"
    if count == 1:
        only = verification.candidates[0]
        return f"{only.name} is as right as {only.precision} allows"
    return f"all {count} candidates are as right as their number types allow"


def factory_hint(verification: Verification) -> str:
    """What to think of where a failure may come from weights that a factory made up; "" elsewhere."""
    wrong = [c for c in verification.candidates if c.outputs and not c.passed]
    made = [one.name for one in (verification.reference, *wrong) if one.kind == "module" and ":" in one.name]
    if not made or not wrong:
        return ""
    return (
        f"note: {list_names(made)} ran with the weights that its factory gives it. Where these are random, nothing "
        f"answers alike: name the file of weights instead, with --model {made[0]}"
    )


def wrong_activations(gate: str, checks: Sequence[ActivationCheck]) -> str:
    """Which activations a gate found wrong, in a sentence without its end; "" where none is."""
    wrong = [check.path for check in checks if not check.passed]
    if not wrong:
        return ""
    if len(wrong) == len(checks) > 1:
        return f"{gate} gate: all {len(checks)} activations are wrong"
    return f"{gate} gate: {len(wrong)} of {len(checks)} activations wrong: {list_names(wrong)}"


def gates_of(candidate: Candidate) -> list[tuple[str, list[ActivationCheck]]]:
    """The gates that judged activations alone, by name."""
    gates = [("operator", candidate.activations), ("kernel", candidate.kernels)]
    return [(name, checks) for name, checks in gates if checks]


def _show_candidate(console: Terminal, candidate: Candidate) -> None:
    console.print("")
    console.print(f"{candidate.name}: {candidate.kind}, {candidate.precision}")
    for text in candidate.notices:
        console.print(f"note: {text}")
    if candidate.failure:
        failure = candidate.failure
        console.print_lines(f"NOT VERIFIED: {failure.saw}; wanted {failure.wanted}. {failure.do}")
    if candidate.outputs:
        _show_outputs(console, candidate)
    _show_activations(console, candidate)
    if candidate.layers:
        _show_layers(console, candidate.layers)


def _show_outputs(console: Terminal, candidate: Candidate) -> None:
    rows = []
    for verdict in candidate.outputs:
        check = verdict.check
        top1 = "-" if check.top1_agreement is None else f"{check.top1_agreement:.2%}"
        runner = check.runner.removeprefix(f"{candidate.name}: ")
        rows.append([
            check.name, runner, f"{check.max_rel:.1e}", f"{check.limit:.1e}", f"{check.max_abs:.1e}",
            f"{check.cosine:.9f}", top1, "; ".join(verdict.failures) or "passed",
        ])  # fmt: skip
    console.table(("output", "runner", "max rel", "limit", "max abs", "cosine", "top-1 same", "verdict"), rows)
    for text in (gain_line(verdict.check) for verdict in candidate.outputs if verdict.check.gains):
        console.print(text)
    for text in dict.fromkeys(
        f"{v.check.name}: {m.name} {m.value:.3g} = {m.derivation}" for v in candidate.outputs for m in v.limits
    ):
        console.print(f"limit of {text}")


def _show_activations(console: Terminal, candidate: Candidate) -> None:
    for gate, checks in gates_of(candidate):
        worst = max(checks, key=lambda check: check.max_error / check.limit)
        verdict = wrong_activations(gate, checks) or f"{gate} gate: all {len(checks)} activations alone are right"
        console.print(f"{verdict}; at most {worst.max_error:.1e} off ({worst.path}), limit {worst.limit:.1e}")
        for check in [check for check in checks if not check.passed][:_WORST]:
            console.print(f"  {explain_activation(check)}")


def _show_layers(console: Terminal, layers: Sequence[ActivationError]) -> None:
    rows = []
    for error in rank_errors(layers)[:_WORST]:
        predicted = "-" if error.predicted is None else f"{error.predicted:.1e}"
        verdict = "" if error.passed or not error.limit else f"{times(error.measured / error.limit)} its limit"
        rows.append(
            [error.path, error.kind, f"{error.measured:.1e}", predicted, f"{error.limit or 0:.1e}", verdict]
        )
    headers = ("place", "what", "adds", "predicted", "limit", "verdict")
    console.table(headers, rows, "error that each piece adds, relative")
    left = len(layers) - _WORST
    if left > 0:
        console.print(f"and {left} smaller ones (--json lists all)")


def _show_accuracy(console: Terminal, accuracies: Sequence[Accuracy]) -> None:
    if not accuracies:
        return
    rows = []
    for a in accuracies:
        top5 = "-" if a.top5 is None else f"{a.top5:.2%}"
        rows.append([a.runner, a.group, str(a.samples), f"{a.top1:.2%}", top5])
    console.table(("runner", "group", "samples", "top-1", "top-5"), rows, "accuracy")
