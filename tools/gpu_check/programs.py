"""Run a program on the device: what it printed, line by line, is kept also where it is cut off."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apa_deploy.child_process import NO_ANSWER, run_limited
from apa_deploy.errors import MissingError

NO_DEVICE = 3


@dataclass(frozen=True)
class Answer:
    """`rows`: the lines of JSON among what it printed; `lines`: the others; `reason`: why it failed, or ""."""

    reason: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def is_cut_off(self) -> bool:
        """Whether its time was over before it ended."""
        return self.reason.startswith(NO_ANSWER)


def ask(command: Sequence[str | Path], seconds: float, log: Path, environment: Mapping[str, str] = {}) -> Answer:
    """Run a program within a limit.

    Args:
        log: file for what it writes.
        environment: variables beside this process's own.

    Raises:
        MissingError: it found no device.
    """
    given = [f"{name}={value}" for name, value in environment.items()]
    reason = run_limited([*(["env", *given] if given else []), *map(str, command)], log, seconds)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if reason.endswith(f"code {NO_DEVICE}"):
        raise MissingError(
            lines[-1] if lines else "no device", "a GPU and its driver", "Run this on a machine with an NVIDIA GPU."
        )
    rows = [row for line in lines if (row := _row(line)) is not None]
    return Answer(reason, rows, [line for line in lines if line and not line.startswith("{")])


def capability() -> int | None:
    """Of the first GPU, such as 90; None without one."""
    from apa_deploy.runtimes.cuda_driver import gpus

    found = gpus()
    return int(found[0].capability.replace(".", "")) if found else None


def _row(line: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(line)) if line.startswith("{") else None
    except ValueError:  # the line at which it was cut off
        return None


def has_program(name: str) -> bool:
    """Whether a program is in PATH."""
    return any(os.access(Path(folder) / name, os.X_OK) for folder in os.get_exec_path())
