"""Run `builder` as a child process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from apa_deploy.child_process import last_lines

from ..build_progress import Report, engine_error, last_report

_SCRIPT = Path(__file__).with_name("builder.py")


@dataclass(frozen=True)
class Job:
    """What the child builds. `capabilities`: names such as SM86, none for a portable engine.

    `batches`: least, usual and largest batch, for a model with a dynamic one; `sample_shape`: the other axes;
    `other_shapes`: those of inputs after the first, by name.
    `tf32`: whether float32 products may be rounded to 10 bits first.
    """

    model: str
    engine: str
    log: str
    sample_shape: tuple[int, ...]
    batches: tuple[int, int, int]
    capabilities: tuple[str, ...] = ()
    strip_weights: bool = False
    tf32: bool = False
    other_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Built:
    """What the builder made of a job. `launches`: kernels by type, as its own layer log lists them."""

    seconds: float
    peak_memory_bytes: int
    bytes: int
    launches: dict[str, int]
    builder: str


def build_in_child(job: Job, on_report: Callable[[Report], None] = lambda _: None) -> Built:
    """Build in a process of its own.

    Args:
        on_report: receives each report of progress; see `builder`.

    Raises:
        ChildError: the builder refused the model, or the process died.
    """
    description, said = (Path(job.log).with_suffix(suffix) for suffix in (".job.json", ".stderr"))
    description.write_text(json.dumps(asdict(job)), encoding="utf-8")
    last, reason = last_report(_SCRIPT, [str(description)], said, on_report)
    if reason:
        raise engine_error(reason, last_lines(Path(job.log)) + last_lines(said))
    return Built(**last["result"])
