"""What a verification found, as data: `--json` prints it. Schema version 1."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, computed_field

from .. import __version__
from ..errors import ApaError
from ..parity.report import ActivationCheck, OutputCheck
from ..passport import FileRecord, now
from ..passport_check import PassportCheck


class Limit(BaseModel):
    """`name`: max_rel, max_abs or min_agreement. `derivation`: why it is what it is."""

    name: str
    value: float
    derivation: str


class OutputVerdict(BaseModel):
    """One output of one runner, and what it must keep to; `failures`: which limits it breaks, in words."""

    check: OutputCheck
    limits: list[Limit]
    failures: list[str]


class LayerError(BaseModel):
    """The error that one piece of the network adds, its inputs taken from the reference (but see `layers_replay`).

    `place`: the activation's path, or what lies before it. `measured`, `predicted`, `limit`: the largest error
    relative to the largest |reference|; `measured_abs`: itself.
    """

    runner: str
    place: str
    kind: str
    measured: float
    measured_abs: float
    predicted: float | None
    limit: float
    passed: bool


class Accuracy(BaseModel):
    """Correct answers on labelled data. `group`: all, many, medium or few; fractions from 0 to 1."""

    runner: str
    output: str
    group: str
    samples: int
    top1: float
    top5: float | None


class Failure(BaseModel):
    """Why a candidate could not be judged: an error in its three parts, and its exit code."""

    saw: str
    wanted: str
    do: str
    exit_code: int

    @classmethod
    def of(cls, error: ApaError) -> Failure:
        """The same, as data."""
        return cls(saw=error.saw, wanted=error.wanted, do=error.do, exit_code=error.exit_code)


class Compared(BaseModel):
    """One of the things compared. `file`: None for a module; `source_sha256`: what it says it was made from."""

    name: str
    kind: str
    file: FileRecord | None = None
    precision: str = "fp32"
    source_sha256: str = ""
    weights: str = ""
    notices: list[str] = []


class Candidate(Compared):
    """Everything about one candidate. `activations`: the operator gate; `kernels`: the kernel gate."""

    outputs: list[OutputVerdict] = []
    activations: list[ActivationCheck] = []
    kernels: list[ActivationCheck] = []
    layers: list[LayerError] = []
    accuracy: list[Accuracy] = []
    failure: Failure | None = None
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
    reference: Compared
    inputs: Inputs
    accuracy: list[Accuracy] = []
    candidates: list[Candidate]
    versions: dict[str, str] = {}
    command: list[str] = []
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
