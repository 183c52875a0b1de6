"""What a benchmark found, as data: the passport keeps it, the report draws it, `--json` prints it."""

from __future__ import annotations

from pydantic import BaseModel


class Interval(BaseModel):
    """An estimate and its 95 % bootstrap interval, in the unit of its field."""

    value: float
    low: float
    high: float


class Latency(BaseModel):
    """One artifact in one setting.

    `rounds`: every sample in milliseconds, in order, a list a round; rounds of the artifacts took turns.
    `p50` to `p99` in milliseconds, `throughput` in samples (images) a second, `load_s` in seconds from the
    file to a session that answered once, `peak_memory_bytes` of its process. `threads` None: the runtime's own.
    """

    name: str
    runtime: str
    batch: int
    threads: int | None = None
    rounds: list[list[float]]
    p50: Interval
    p90: Interval
    p99: Interval
    throughput: Interval
    load_s: float
    peak_memory_bytes: int

    @property
    def samples(self) -> list[float]:
        """Every sample, in milliseconds."""
        return [sample for one in self.rounds for sample in one]


class Comparison(BaseModel):
    """`name` beside `baseline` in one setting: `ratio` of their times, below 1 where `name` is faster.

    `verdict`: "no difference", "faster" or "slower"; `p_value` of the test behind it.
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
    """An artifact that could not be measured in one setting, and why, in one line."""

    name: str
    batch: int | None = None
    threads: int | None = None
    reason: str


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
