"""The report of `apa-export`: what was made, and how it was judged."""

from __future__ import annotations

from ..records.parity import ActivationCheck, ParityReport
from ..records.passport import EngineBuild, Passport, versions
from ..records.quantisation import QuantisationRecord
from .record import ActivationError, Compared, KeyFigure, Limit, Report, ReportVerdict, Table
from .wording import amount, exact

_OUTPUT = (
    "The larger of 4 times the error of the same network in torch, in the type of the artifact, and what the depth "
    "of the smallest network makes unavoidable: another order of sums is another sample of one spread."
)
_GAIN = "errors of rounding have no direction, so that they leave this much of a sum along the output."
_ACTIVATION = (
    "Each activation alone, relative to max(1, |y|): the roundings of t = ln(lambda) - kappa*z, of the stored "
    "parameters and of the series for log1p, summed in the worst case and doubled."
)


def export_report(passport: Passport, command: str) -> Report:
    """What a passport tells, as a page."""
    names = ", ".join(one.name for one in passport.outputs)
    report = (
        report_of_gate(passport.parity, names, command)
        if passport.parity and passport.is_judged
        else Report(title=names)
    )
    report.title = f"{names}, exported from {', '.join(one.name for one in passport.inputs)}"
    report.verdict = report.verdict or ReportVerdict(
        status="information", summary="Exported and not verified (--no-verify)."
    )
    size = sum(one.bytes for one in passport.outputs)
    report.figures += [
        KeyFigure(label="learned activations", value=str(len(passport.activations)), note=passport.architecture),
        KeyFigure(label="size", value=amount(size), note=passport.format),
    ]
    report.compared = [
        *(Compared(role="reference", name=one.name, runtime="torch float64", file=one) for one in passport.inputs),
        *(Compared(role="exported", name=one.name, runtime=passport.format, file=one) for one in passport.outputs),
    ]
    report.curves, report.sources, report.notes = passport.activations, passport.inputs, passport.notices
    report.options, report.versions = passport.options, passport.versions
    report.tables = [_build(passport.build)] if passport.build else []
    report.tables += _tables_of_codes(passport.quantisation) if passport.quantisation else []
    report.commands = [command]
    return report


def _tables_of_codes(record: QuantisationRecord) -> list[Table]:
    """What was calibrated, what 8 bits cost layer by layer, the weakest first, and what stayed float."""
    facts = [
        ["precision", f"{record.precision}, placed for {record.target}"],
        ["samples", f"{record.samples} of {record.data}, sha256 {record.data_sha256[:16]}"],
        ["ranges", record.method],
        ["weights", f"{7 if record.reduced else 8} bits; calibrated on {record.vector_instructions}"],
        *(["warning", text] for text in record.warnings),
    ]
    tables = [Table(title="8 bits", headers=["what", "how"], rows=facts)]
    if quality := record.quality:
        least = f"{quality.limits['agreement']:.0%}"
        rows = [[n, f"{v:.1f} dB", f"{quality.limits['sqnr']:g} dB"] for n, v in quality.sqnr.items()]
        rows += [[f"{n}, top-1 as float32", f"{v:.1%}", least] for n, v in quality.agreement.items()]
        if d := quality.detections:
            rows.append(["average precision, float64's detections", f"{d.average_precision:.4f}", f"{d.limit:.4f}"])
        if quality.accuracy:
            rows.append(["accuracy", f"{quality.accuracy[1]:.1%}", f"{quality.accuracy[0]:.1%} in float32"])
        note = f"On {quality.samples} samples that were held back from calibration."
        tables.append(Table(title="What 8 bits cost", headers=["output", "found", "limit"], rows=rows, note=note))
        layers = sorted(quality.layers, key=lambda layer: layer.sqnr)
        bars = [[one.name, f"{one.sqnr:.1f} dB", "\u2588" * max(1, round(one.sqnr / 2))] for one in layers]
        note = "Each layer alone, on the codes that reach it, beside the same layer in float32; longer is better."
        tables.append(Table(title="Signal to noise by layer", headers=["layer", "SQNR", ""], rows=bars, note=note))
    if record.kept:
        rows = [[name, reason] for name, reason in record.kept.items()]
        tables.append(Table(title="What stayed float32", headers=["name", "why"], rows=rows))
    values = [[v.name, f"{v.low:.4g}", f"{v.high:.4g}", f"{v.scale:.4g}", str(v.zero)] for v in record.values]
    headers = ["value", "from", "to", "scale", "zero"]
    return [*tables, Table(title="Ranges and scales", headers=headers, rows=values)]


def report_of_gate(parity: ParityReport, name: str, command: str) -> Report:
    """What a gate found, whether it opened or not."""
    worst = max(parity.outputs, key=lambda check: check.max_rel / check.limit, default=None)
    label, value = "largest error / limit", f"{worst.max_rel / worst.limit:.2f}" if worst else ""
    return Report(
        title=f"{name} against the float64 module",
        verdict=_verdict(parity, name),
        figures=[KeyFigure(label=label, value=value, note=f"{worst.name}, {worst.runner}")] if worst else [],
        outputs=parity.outputs,
        limits=_limits(parity),
        activation_errors=[_error_alone(check, parity.runtime) for check in parity.activations],
        versions=versions(),
        commands=[command],
    )


def _limits(parity: ParityReport) -> list[Limit]:
    outputs = dict.fromkeys((check.name, check.limit) for check in parity.outputs)
    gains = dict.fromkeys((f"{c.name}, {g.what}", g.high, g.low) for c in parity.outputs for g in c.gains)
    activations = dict.fromkeys(check.limit for check in parity.activations)
    return [
        *(Limit(name=name, value=limit, derivation=_OUTPUT) for name, limit in outputs),
        *(Limit(name=name, value=high, derivation=f"From {exact(low)}: {_GAIN}") for name, high, low in gains),
        *(Limit(name="activation", value=limit, derivation=_ACTIVATION) for limit in activations),
    ]


def _error_alone(check: ActivationCheck, runtime: str) -> ActivationError:
    return ActivationError(
        runner=runtime,
        path=check.path,
        kind=check.kind,
        measured=check.max_error,
        limit=check.limit,
        passed=check.passed,
    )


def _verdict(parity: ParityReport, name: str) -> ReportVerdict:
    if parity.reason:
        return ReportVerdict(status="failed", summary=f"{name} cannot be judged: {parity.reason}.", reasons=[])
    failed = sum(not c.passed for c in parity.outputs) + sum(not c.passed for c in parity.activations)
    if failed:
        reasons = [f"{parity.blame.path} is the first activation at fault."] if parity.blame else []
        return ReportVerdict(
            status="failed", summary=f"{name} is not right: it breaks {failed} limits.", reasons=reasons
        )
    reasons = [f"Every output is within its limit, on {parity.inputs} inputs; compared: {len(parity.outputs)}."]
    if parity.activations:
        largest = max(c.max_error for c in parity.activations)
        reasons.append(
            f"Each activation alone is at most {exact(largest)} off; compared: {len(parity.activations)}."
        )
    return ReportVerdict(status="passed", summary=f"{name} answers as the float64 module does.", reasons=reasons)


def _build(build: EngineBuild) -> Table:
    rows = [
        ["builder", build.builder],
        ["compute capability", ", ".join(build.capabilities) or "8.0 and later"],
        ["batch", ":".join(map(str, build.batches))],
        ["kernel launches", ", ".join(f"{count} {kind}" for kind, count in build.launches.items())],
        ["seconds", f"{build.seconds:.1f}"],
        ["peak memory", amount(build.peak_memory_bytes)],
        *([["kept, of several", build.reason]] if build.reason and len(build.candidates) > 1 else []),
    ]
    return Table(title="Engine", headers=["", "value"], rows=rows, note=build.note)
