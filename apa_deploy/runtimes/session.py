"""`Session`: run an exported file on the runtime that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from ..errors import InputError
from .providers import Wanted

Arrays = Mapping[str, np.ndarray]


class Runner(Protocol):
    """What a runtime provides to `Session`. `run` is safe from several threads at once."""

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]: ...

    def close(self) -> None: ...


class Session:
    """An exported model, ready to run: `Session(path).run({name: array}) -> {name: array}`.

    Thread-safe; a context manager that frees the runtime on exit.

    Args:
        path: an `.onnx` file; the suffix chooses the runtime.
        threads: threads of the runtime's own pool; None: one a physical core.
        providers: ONNX Runtime providers in order of preference, names or (name, options); None: the CPU.
        kernel: what computes our operators on the CPU: "exact", "acc" or "pw" (docs/kernels.md); None: the
            environment's APA_KERNEL, or else the fastest within the error bound.

    Raises:
        InputError: the file is absent or of no known kind, does not load, or a provider is not available;
            or there is no such kernel.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        providers: Sequence[Wanted] | None = None,
        kernel: str | None = None,
    ) -> None:
        self.path = Path(path)
        self._runner: Runner | None = _opened(self.path, threads, providers, kernel)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names that `run` wants."""
        return self._open().input_names

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names that `run` returns."""
        return self._open().output_names

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """One inference: every input by name, every output by name; shapes and dtypes are the model's.

        Raises:
            InputError: a name is missing or unknown, or the runtime refuses a shape or dtype.
        """
        runner = self._open()
        if set(inputs) != set(runner.input_names):
            raise InputError(
                f"inputs {', '.join(sorted(inputs)) or 'none'}",
                f"{', '.join(runner.input_names)}",
                f"Give every input of {self.path.name} by its name.",
            )
        return runner.run(inputs)

    def close(self) -> None:
        """Free the runtime; a second call does nothing."""
        runner, self._runner = self._runner, None
        if runner:
            runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> Runner:
        if self._runner is None:
            raise InputError(f"{self.path.name}: a closed session", "an open one", "Make a new Session.")
        return self._runner


def _opened(path: Path, threads: int | None, providers: Sequence[Wanted] | None, kernel: str | None) -> Runner:
    if not path.is_file():
        raise InputError(f"{path} is not a file", "an exported model", "Check the path.")
    if path.suffix == ".onnx":
        from .onnxruntime import OnnxRunner

        return OnnxRunner(path, threads, providers, kernel)
    raise InputError(
        f"{path.name} with the suffix {path.suffix!r}",
        "an .onnx file",
        "Give the exported .onnx file; a TensorRT engine is served with the TensorRT tools.",
    )
