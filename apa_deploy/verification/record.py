"""What a verification found, as data: `--json` prints it. Schema version 1."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, computed_field

from .. import __version__
from ..errors import ApaError
from ..records.integrity import PassportCheck
from ..records.parity import ActivationCheck, OutputCheck
from ..records.passport import ActivationRecord, FileRecord, now
from ..report.record import Accuracy, ActivationError, Detected, Limit


class OutputVerdict(BaseModel):
    """One output of one runner, and what it must keep to; `failures`: which limits it breaks, in words."""

    check: OutputCheck
    limits: list[Limit]
    failures: list[str]


class FailureRecord(BaseModel):
    """Why a candidate could not be judged: an error in its three parts, and its exit code."""

    saw: str
    wanted: str
    do: str
    exit_code: int

    @classmethod
    def of(cls, error: ApaError) -> FailureRecord:
        """The same, as data."""
        return cls(saw=error.saw, wanted=error.wanted, do=error.do, exit_code=error.exit_code)


class ComparedSource(BaseModel):
    """One of the things compared. `file`: None for a module; `source_sha256`: what it says it was made from.

    `half_io`: of an engine, whether its inputs have its half type as well.
    """

    name: str
    kind: str
    file: FileRecord | None = None
    precision: str = "fp32"
    source_sha256: str = ""
    weights: str = ""
    half_io: bool = False
    notices: list[str] = []


class Candidate(ComparedSource):
    """Everything about one candidate. `activations`: the operator gate; `kernels`: the kernel gate.

    `layers`: what each piece of it adds (`layers`): an activation, or all that lies before one.
    """

    outputs: list[OutputVerdict] = []
    activations: list[ActivationCheck] = []
    kernels: list[ActivationCheck] = []
    layers: list[ActivationError] = []
    accuracy: list[Accuracy] = []
    failure: FailureRecord | None = None
    seconds: float = 0.0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether it was judged, and every gate is open."""
        checks = [*self.activations, *self.kernels]
        return (
            bool(self.outputs)
            and self.failure is None
            and not self.failed_outputs
            and all(c.passed for c in checks)
        )

    @property
    def failed_outputs(self) -> list[OutputVerdict]:
        """Outputs that break a limit."""
        return [verdict for verdict in self.outputs if verdict.failures]


class Inputs(BaseModel):
    """What was fed. `sha256`: over every byte of it; all processes saw the same."""

    said: str
    samples: int
    batches: int
    sha256: str


class Verification(BaseModel):
    """The verdict and everything it rests on."""

    schema_version: Literal[1] = 1
    tool: str = f"apa-deploy {__version__}"
    created: str = Field(default_factory=now)
    reference: ComparedSource
    inputs: Inputs
    accuracy: list[Accuracy] = []
    curves: list[ActivationRecord] = []
    candidates: list[Candidate]
    detected: list[Detected] = Field(default=[], exclude=True)  # drawn, not told
    versions: dict[str, str] = {}
    command: str = ""
    passport: PassportCheck | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether every candidate passed."""
        return all(candidate.passed for candidate in self.candidates)

    @property
    def exit_code(self) -> int:
        """0 good; 1 a gate failed; else 3 for something missing, 2 for bad input."""
        codes = {c.failure.exit_code if c.failure else 1 for c in self.candidates if not c.passed}
        return next((code for code in (1, 3, 2) if code in codes), 0)
