"""What a verification found, as data: the passport keeps it, `--json` prints it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from ..errors import GateError

Verdict = Literal["passed", "failed", "cannot be judged", "not judged"]


class GainCheck(BaseModel):
    """Whether an output, or a channel of it, is scaled or shifted: `error` is 0 where it is not (`parity.gain`)."""

    what: str
    error: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether rounding explains it."""
        return self.low <= self.error <= self.high

    def __str__(self) -> str:
        """Error and range in percent."""
        return f"{self.what} {self.error:+.2g} ({self.low:+.2g} to {self.high:+.2g})"


class OutputCheck(BaseModel):
    """One output against float64. Errors relative to the largest |reference| of the output.

    `quantiles`: absolute error at p50, p90, p99. `top1_agreement`: fraction of samples with the same
    largest class; None for outputs that are no class scores. `stored_max_rel`: for half types, the error of
    float64 arithmetic that stores every value in the type. `evidence`: whether the reference depends on the inputs
    at all; one number everywhere, as a detector gives to noise, proves nothing. `ranges`: all that `gains`
    may be, by output; not kept.
    """

    runner: str
    name: str
    samples: int
    max_abs: float
    max_rel: float
    quantiles: dict[str, float]
    cosine: float
    top1_agreement: float | None
    torch_float32_max_rel: float
    stored_max_rel: float | None = None
    limit: float
    min_cosine: float | None = None
    gains: list[GainCheck] = []
    ranges: dict[str, Any] = Field(default={}, exclude=True, repr=False)
    evidence: bool = True
    passed: bool

    def __eq__(self, other: object) -> bool:
        """Whether the same is recorded: `ranges` is not."""
        return isinstance(other, OutputCheck) and self.model_dump() == other.model_dump()

    @property
    def broken_gains(self) -> list[GainCheck]:
        """Those that rounding does not explain."""
        return [gain for gain in self.gains if not gain.passed]


def gain_line(check: OutputCheck) -> str:
    """Its gains, each with its range, in a line."""
    return f"{check.name}, {check.runner}: " + ", ".join(map(str, check.gains))


class ActivationCheck(BaseModel):
    """One activation alone: its largest error against its float64 original, relative to max(1, |y|).

    `gains`: of half types, by how much of itself each parameter seems to be off.
    """

    path: str
    kind: str
    max_error: float
    limit: float
    gains: list[GainCheck] = []
    passed: bool


class DetectionCheck(BaseModel):
    """Detections of one runner against float64. Errors: pixels of the network's input, and probability.

    `excused`: without a counterpart, where rounding may decide in NMS. `proposals`: share of the reference's that
    the candidate has too. `average_precision`: COCO's, with the float64 detections for the truth;
    `least_precision`: its limit, of half types alone.
    """

    runner: str
    reference: int
    found: int
    matched: int
    excused: int
    box_error: float
    score_error: float
    proposals: float
    average_precision: float
    least_precision: float | None = None
    passed: bool


class Blame(BaseModel):
    """The first activation at fault: relative error of what enters and of what leaves it."""

    path: str
    entering: float
    leaving: float


class ParityReport(BaseModel):
    """The verdict and everything it rests on. `reason`: why nothing can be judged, or was."""

    passed: bool
    verdict: Verdict = "passed"
    reason: str = ""
    inputs: str
    runtime: str
    outputs: list[OutputCheck]
    activations: list[ActivationCheck]
    blame: Blame | None = None
    detections: list[DetectionCheck] = []

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """A record of the first version has no verdict."""
        if not self.passed and self.verdict == "passed":
            self.verdict = "failed"
        return self

    def add_checks(self, checks: Iterable[OutputCheck]) -> None:
        """Judge further outputs, of another runtime; whatever fails changes the verdict."""
        self.outputs += checks
        if not all(check.passed for check in self.outputs):
            self.passed, self.verdict = False, "failed"


def refuse_to_judge(reason: str, inputs: str, runtime: str = "", *, asked: bool = True) -> ParityReport:
    """The report where no gate can tell anything; `asked`: False where nobody wanted to know."""
    verdict: Verdict = "cannot be judged" if asked else "not judged"
    return ParityReport(
        passed=False, verdict=verdict, reason=reason, inputs=inputs, runtime=runtime, outputs=[], activations=[]
    )


class ParityError(GateError):
    """An exported model is not right. `report` says where."""

    def __init__(self, report: ParityReport) -> None:
        super().__init__(_saw(report), "parity with the float64 module", _advice(report))
        self.report = report


def _saw(report: ParityReport) -> str:
    if report.reason:
        return f"cannot be judged: {report.reason}"
    worst = [_off(c) for c in report.outputs if not c.passed]
    worst += [
        f"average precision {d.average_precision:.4f}, limit {d.least_precision:.4f} ({d.runner})"
        for d in report.detections
        if not d.passed and d.least_precision is not None
    ]
    worst += [
        f"{d.found - d.matched} detections too many, {d.reference - d.matched} missing of {d.reference} "
        f"({d.excused} of them within the margin of NMS), boxes {d.box_error:.1e} pixels and scores "
        f"{d.score_error:.1e} off, {d.proposals:.1%} of the proposals ({d.runner})"
        for d in report.detections
        if not d.passed and d.least_precision is None
    ]
    wrong = [explain_activation(c) for c in report.activations if not c.passed]
    return "; ".join(worst + wrong[:3]) + (f" and {len(wrong) - 3} more activations" if len(wrong) > 3 else "")


def explain_activation(check: ActivationCheck) -> str:
    """What is wrong with an activation that did not pass."""
    gains = [gain for gain in check.gains if not gain.passed]
    if gains:
        return f"{check.path} ({check.kind}) has another {' and '.join(map(str, gains))}"
    return f"{check.path} ({check.kind}) is {check.max_error:.1e} off (limit {check.limit:.1e})"


def _off(check: OutputCheck) -> str:
    if check.max_rel <= check.limit and check.broken_gains:
        off = ", ".join(map(str, check.broken_gains))
        return f"{check.name} is scaled or shifted: {off} ({check.runner})"
    if check.max_rel <= check.limit:
        return f"{check.name} has a cosine of {check.cosine:.6f} ({check.runner}, at least {check.min_cosine})"
    return f"{check.name} is {check.max_rel:.1e} off ({check.runner}, limit {check.limit:.1e})"


def _advice(report: ParityReport) -> str:
    if report.reason and not report.outputs:
        return (
            "Nothing was written. Put layers into eval mode, with layer.eval(); give functions the mode, e.g. "
            "F.dropout(x, p, self.training); a batch norm needs running statistics. Or pass --no-verify."
        )
    if report.reason:
        return "Nothing was written. Give inputs of use with --inputs FILE.npz, or pass --no-verify."
    wrong = [check.path for check in report.activations if not check.passed]
    if report.blame is None and wrong:
        return f"The first activation at fault is {wrong[0]}: it is wrong by itself. The file was not written."
    if report.blame is None:
        where = "the rest of the graph is at fault, or the runtime"
        return f"Each activation alone is right: {where}. The file was not written."
    b = report.blame
    return (
        f"The first activation at fault is {b.path}: the error is {b.entering:.1e} where it begins and "
        f"{b.leaving:.1e} where it ends. The file was not written."
    )
