"""`--isolate`: executions in processes of their own, which can be ended and replaced where a thread cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

import numpy as np

from ..errors import ApaError
from ..runtimes.cancellation import Cancellation
from .child import Child, ChildError
from .errors import ExecutionError, UnavailableError

Arrays = Mapping[str, np.ndarray]


class IsolatedSession:
    """As `Session`, but every one of `instances` runs in a process of its own, which holds the model.

    Args:
        options: of `Session`.
        check: raises `ApaError` where `path` is not the file any more that was checked before it was first loaded.
    """

    def __init__(self, path: Path, instances: int, options: dict[str, Any], check: Callable[[], None]) -> None:
        self._path, self._options, self._check = path, options, check
        self._free: SimpleQueue[Child] = SimpleQueue()
        self._children: list[Child] = []
        self._closed = False
        try:
            for _ in range(instances):
                self._free.put(self._start())
        except BaseException:
            self.close()
            raise
        self.signature = self._children[0].facts

    @property
    def pids(self) -> list[int]:
        """The processes that run the model."""
        return [child.pid for child in self._children]

    def run(self, inputs: Arrays, cancellation: Cancellation | None = None) -> dict[str, np.ndarray]:
        """As `Session.run`; a cancellation ends the process.

        Raises:
            InputError: the runtime refuses a shape or value.
            ExecutionError: it failed, or its process ended; the next run has a new one.
        """
        child = self._free.get()
        try:
            if not child.is_running:
                child = self._replace(child)
            if cancellation:
                cancellation.on_force(child.kill)
            return child.call(dict(inputs))
        except ChildError as error:
            raise ExecutionError(error.reason, "a result", "See the server's log.") from error
        finally:
            if cancellation:
                cancellation.on_force(None)
            if not (
                child.is_running or self._closed
            ):  # at once, so that the next request need not wait for the load
                child = self._replace(child, quietly=True)
            self._free.put(child)

    def kill(self) -> None:
        """End every process at once; none is replaced any more."""
        self._closed = True
        for child in self._children:
            child.kill()

    def close(self) -> None:
        """End every process and free what belongs to it; nothing may run any more."""
        self.kill()
        for child in self._children:
            child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> Child:
        child = Child(f"{__name__}:open_child_session", str(self._path), self._options)
        self._children.append(child)
        return child

    def _replace(self, child: Child, *, quietly: bool = False) -> Child:
        try:
            self._check()
            new = self._start()
        except ApaError as error:
            if quietly:
                return child  # the next run tries again, and says why it fails
            saw = f"a process that ended, and does not start again: {getattr(error, 'reason', error)}"
            raise UnavailableError(
                saw, "the file that was served", "It is tried again with the next request."
            ) from error
        self._children.remove(child)
        child.close()
        return new


def open_child_session(path: str, options: dict[str, Any]) -> tuple[Any, Callable[[Arrays], dict[str, np.ndarray]]]:
    """In the process: an engine's signature (None for ONNX), and what runs the model."""
    from ..runtimes.artifacts import ENGINE, artifact_kind
    from ..runtimes.session import Session

    session = Session(path, **options)
    return (session.signature if artifact_kind(session.path) is ENGINE else None), session.run
