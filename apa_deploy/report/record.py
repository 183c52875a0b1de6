"""A report as data. Schema version 1: fields are added, never renamed; every part may be left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from .. import __version__
from ..records.benchmark import Comparison, Environment, Failure, Latency, Traffic
from ..records.parity import OutputCheck
from ..records.passport import ActivationRecord, FileRecord, now

SCHEMA = 1


class ReportVerdict(BaseModel):
    """The answer. `summary`: one sentence; `reasons`: what it rests on, a sentence each."""

    status: Literal["passed", "failed", "information"]
    summary: str
    reasons: list[str] = []


class KeyFigure(BaseModel):
    """A number for the head of the page: `value` as it is printed, unit included."""

    label: str
    value: str
    note: str = ""


class Compared(BaseModel):
    """One of the things compared. `role`: e.g. "reference", "candidate", "baseline"."""

    role: str
    name: str
    runtime: str = ""
    file: FileRecord | None = None
    note: str = ""


class Limit(BaseModel):
    """A limit, and why it is what it is."""

    name: str
    value: float
    derivation: str


class ActivationError(BaseModel):
    """The error that one activation adds, its input taken from the reference.

    Errors relative to the largest |reference| of its output; `predicted`: what the number type makes likely.
    """

    runner: str
    path: str
    kind: str
    measured: float
    predicted: float | None = None
    limit: float | None = None
    passed: bool | None = None


def worst_first(errors: Sequence[ActivationError]) -> list[ActivationError]:
    """Ranked by the measured error; what is no number comes first."""
    return sorted(errors, key=lambda error: (math.isnan(error.measured), error.measured), reverse=True)


class Accuracy(BaseModel):
    """Correct answers of one runner on labelled data. `group`: "all", "many", "medium" or "few"; 0 to 1."""

    runner: str
    group: str
    samples: int
    top1: float
    top5: float | None = None


class Table(BaseModel):
    """Anything else worth a table; cells are printed as they are."""

    title: str
    headers: list[str]
    rows: list[list[str]]
    note: str = ""


class Detected(BaseModel):
    """What one runner detects in one picture: boxes x1 y1 x2 y2 in pixels of `size` (width, height).

    `image`: the picture, shrunk: an .npz of RGB bytes, `pixels`, in base64.
    """

    picture: str
    runner: str
    image: str
    size: tuple[int, int]
    boxes: list[list[float]]
    scores: list[float]
    labels: list[int]


class Report(BaseModel):
    """Everything that a verb found. `commands`: what to type to get the same; `sources`: what it was made from."""

    schema_version: Literal[1] = 1
    tool: str = f"apa-deploy {__version__}"
    created: str = Field(default_factory=now)
    title: str
    verdict: ReportVerdict | None = None
    figures: list[KeyFigure] = []
    compared: list[Compared] = []
    outputs: list[OutputCheck] = []
    limits: list[Limit] = []
    activation_errors: list[ActivationError] = []
    accuracy: list[Accuracy] = []
    curves: list[ActivationRecord] = []
    latency: list[Latency] = []
    comparisons: list[Comparison] = []
    traffic: list[Traffic] = []
    failures: list[Failure] = []
    tables: list[Table] = []
    detected: list[Detected] = []
    environment: Environment | None = None
    versions: dict[str, str] = {}
    sources: list[FileRecord] = []
    options: dict[str, Any] = {}
    commands: list[str] = []
    notes: list[str] = []
