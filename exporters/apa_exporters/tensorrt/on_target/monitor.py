"""TensorRT's progress, as reports: {"phase", "parent", "steps"}, {"phase", "done"}, {"phase", "finished"}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Report = Callable[..., None]


def monitor(report: Report) -> Any:
    """A `tensorrt.IProgressMonitor` that passes the builder's phases on; several of its threads may call."""
    import tensorrt as trt

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            report(phase=phase_name, parent=parent_phase, steps=num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            report(phase=phase_name, done=step)
            return True

        def phase_finish(self, phase_name: str) -> None:
            report(phase=phase_name, finished=True)

    return Monitor()
