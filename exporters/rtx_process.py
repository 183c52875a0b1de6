"""Run `rtx_builder` as a child process: pass its progress on, turn its death into an error."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from apa_deploy.errors import GateError

Report = dict[str, Any]
_SCRIPT = Path(__file__).with_name("rtx_builder.py")
_LAST_LINES, _LINE = 8, 200


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


class EngineError(GateError):
    """The builder refused or died. `reason`: its message or signal; `log`: the last lines it wrote."""

    def __init__(self, reason: str, log: list[str]) -> None:
        tail = "".join(f"\n  {line}" for line in log)
        super().__init__(reason, "an engine", f"No engine was written. The builder's last lines:{tail or ' none'}")
        self.reason, self.log = reason, log


def build_in_child(job: Job, on_report: Callable[[Report], None] = lambda _: None) -> Built:
    """Build in a process of its own.

    Args:
        on_report: receives each report of progress; see `rtx_builder`.

    Raises:
        EngineError: the builder refused the model, or the process died.
    """
    description = Path(job.log).with_suffix(".job.json")
    description.write_text(json.dumps(asdict(job)), encoding="utf-8")
    said = Path(job.log).with_suffix(".stderr")
    result: Report = {}
    with said.open("wb") as errors:
        command = [sys.executable, "-P", str(_SCRIPT), str(description)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child:
            try:
                result = _last_report(child, on_report)
            except BaseException:
                child.kill()
                raise
    if "result" not in result or child.returncode:
        reason = result.get("error") or _death(child.returncode)
        raise EngineError(reason, _tail(Path(job.log)) + _tail(said))
    return Built(**result["result"])


def _last_report(child: subprocess.Popen[str], on_report: Callable[[Report], None]) -> Report:
    assert child.stdout is not None  # it is a pipe
    last: Report = {}
    for line in child.stdout:
        last = json.loads(line)
        on_report(last)
    return last


def _death(code: int) -> str:
    if code >= 0:
        return f"the builder's process ended with code {code}"
    name = signal.Signals(-code).name
    hint = ", as when memory runs out" if name == "SIGKILL" else ""
    return f"the builder's process was ended by {name}{hint}"


def _tail(path: Path) -> list[str]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip()[:_LINE] for line in deque(file, _LAST_LINES)]
