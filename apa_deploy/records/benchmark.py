"""What a benchmark found, as data: the passport keeps it, the report draws it, `--json` prints it."""

from __future__ import annotations

from statistics import median

from pydantic import BaseModel, Field

from .placement import KernelPlacement


class Interval(BaseModel):
    """An estimate and its interval, in the unit of its field; no bounds where a single turn gives none."""

    value: float
    low: float | None = None
    high: float | None = None


class Latency(BaseModel):
    """One artifact in one setting. `sha256`: of its file, "" for a twin.

    `rounds`: every sample in milliseconds, in order, a list a turn; `launches`: processes that took as many turns
    each, one after the other. `p50` to `p99` in milliseconds; `throughput` in samples (images) a second.
    `loads_s`: seconds from the file to the first answer, a launch each. `peak_memory_bytes`: of the process.
    `threads` None: as many as the runtime takes by itself. `placement`: which kernels ran its activations; None
    where the runtime does not say it.
    """

    name: str
    sha256: str = ""
    runtime: str
    batch: int
    threads: int | None = None
    launches: int = 1
    rounds: list[list[float]]
    p50: Interval
    p90: Interval
    p99: Interval
    throughput: Interval
    loads_s: list[float]
    peak_memory_bytes: int
    placement: KernelPlacement | None = None

    @property
    def samples(self) -> list[float]:
        """Every sample, in milliseconds."""
        return [sample for one in self.rounds for sample in one]

    @property
    def load_s(self) -> float:
        """The median time to load, in seconds."""
        return median(self.loads_s)


class Comparison(BaseModel):
    """`name` beside `baseline` in one setting: `ratio` of their times, below 1 where `name` is faster, with its
    99 % interval. `verdict`: "no difference", "faster" or "slower"; `p_value` of the test behind it (`statistics`).
    """

    name: str
    baseline: str
    batch: int
    threads: int | None = None
    ratio: Interval
    p_value: float
    verdict: str


class Traffic(BaseModel):
    """One activation alone: bytes it reads and writes, its time, its share of the speed of a plain copy."""

    artifact: str
    path: str
    kind: str
    bytes: int
    ms: float
    copy_fraction: float


class Failure(BaseModel):
    """An artifact that could not be measured in one setting, and why, in one line.

    `missing`: what was seen, wanted, and adds it, where the machine lacks a component.
    """

    name: str
    batch: int | None = None
    threads: int | None = None
    reason: str
    missing: tuple[str, str, str] | None = Field(default=None, exclude=True)


class Environment(BaseModel):
    """The machine while it measured. `load`: 1-minute average before and after."""

    cpu: str
    cores: int
    governor: str
    memory_bytes: int
    gpu: str = "none"
    load: tuple[float, float]
    versions: dict[str, str]
    variables: dict[str, str] = {}


class BenchResult(BaseModel):
    """Everything that one benchmark measured."""

    series: list[Latency]
    comparisons: list[Comparison] = []
    traffic: list[Traffic] = []
    failures: list[Failure] = []
    copy_bytes_per_s: float | None = None
    environment: Environment


class LatencyRecord(BaseModel):
    """What a passport keeps of a benchmark: the series of its own artifact."""

    created: str
    series: list[Latency]
    comparisons: list[Comparison]
    environment: Environment
