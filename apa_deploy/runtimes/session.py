"""`Session`: run an exported file on the runtime that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from ..errors import InputError
from ..records.placement import KernelPlacement
from ..tensors.signature import Profile, Signature
from .artifacts import ENGINE, ONNX, OPENVINO, artifact_kind
from .cancellation import Cancellation
from .engine_trust import Trust
from .providers import Wanted

Arrays = Mapping[str, np.ndarray]


class Runner(Protocol):
    """What a runtime provides to `Session`. `run` is safe from several threads at once."""

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    prepared: Path | None

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]: ...

    def close(self) -> None: ...


class Session:
    """An exported model, ready to run: `Session(path).run({name: array}) -> {name: array}`.

    Thread-safe; a context manager that frees the runtime on exit.

    Args:
        path: an `.onnx` file, an engine of TensorRT, or an `.xml` of OpenVINO; what is in it chooses the runtime.
        threads: ONNX Runtime: threads of its own pool; None: one a physical core. OpenVINO: None: its own choice.
        providers: ONNX Runtime: providers in order of preference, names or (name, options); None: the CPU.
        layout: ONNX Runtime: whether the CPU runs the model in its blocked layout, prepared at the first load and
            kept in the user's cache; None: yes, unless the environment says APA_LAYOUT=0.
        kernel: ONNX Runtime: what computes our operators on the CPU: "exact", "acc" or "pw" (docs/kernels.md);
            None: the environment's APA_KERNEL, or else "pw". Its bound is absolute; "acc" and "exact" keep small
            results accurate by their own size. Where a layer cannot keep its bound, the next one runs.
        flush_subnormals: ONNX Runtime: count numbers below the smallest normal one as 0, which spares a CPU slow
            ones. It changes the arithmetic of the calling thread and of all that it starts later, NumPy's float64
            included: for a process that does nothing else, and there for the first session or none.
        profile: ONNX Runtime's TensorRT provider: the least, usual and largest shape of each input, for which it
            builds one engine; None: it builds for the shapes that come, again where they grow.
        trust_engine: TensorRT: load an engine whose hash is not in its passport. An engine is code, and a passport
            is not signed: it proves that an engine is intact, not who made it.
        sha256: TensorRT: the hash that the engine must have, instead of its passport's.
        contexts: TensorRT: how many calls of `run` go on at once; each has device memory of its own.
        cuda_graph: TensorRT: launch the third and further runs of a shape as one graph.

    Raises:
        InputError: the file is absent or of no known kind, does not load, or a provider or kernel is not available;
            an engine is not trusted (`UntrustedEngineError`).
        MissingError: OpenVINO, TensorRT, cuda-python, the driver or a GPU is missing, or what the GPU's
            provider needs.
        IntegrityError: an IR or its weights are not those of the passport beside it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        providers: Sequence[Wanted] | None = None,
        layout: bool | None = None,
        kernel: str | None = None,
        flush_subnormals: bool = False,
        profile: Profile | None = None,
        trust_engine: bool = False,
        sha256: str | None = None,
        contexts: int = 1,
        cuda_graph: bool = True,
    ) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{path} is not a file", "an exported model", "Check the path.")
        self._kind = artifact_kind(self.path)
        if self._kind is ENGINE:
            trust = Trust(trust_engine, sha256)
            self._runner: Runner | None = _engine_runner(self.path, trust, contexts, cuda_graph)
        elif self._kind is OPENVINO:
            from .openvino import OpenVinoSession

            self._runner = OpenVinoSession(self.path, threads)
        else:
            self._runner = _onnx_runner(self.path, threads, providers, layout, kernel, flush_subnormals, profile)

    @property
    def prepared(self) -> Path | None:
        """The file that runs in the blocked layout; None: the model runs as it is."""
        return self._open().prepared

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names that `run` wants."""
        return self._open().input_names

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names that `run` returns."""
        return self._open().output_names

    def find_placement(self, inputs: Arrays | None = None) -> KernelPlacement | None:
        """Which kernels run the activations of an ONNX file, on which provider; None: nothing says it.

        ONNX Runtime before 1.24 says it in the profile of a run alone: with `inputs`, one is made, in a second
        session.
        """
        find = getattr(self._open(), "find_placement", None)
        return find(inputs) if find else None

    @property
    def signature(self) -> Signature:
        """Inputs and outputs of an engine; an ONNX file says itself what it takes.

        Raises:
            InputError: it is no engine.
        """
        signature: Signature | None = getattr(self._open(), "signature", None)
        if signature is None:
            raise InputError(f"{self.path.name} is no engine", "an engine", "Read the ONNX file itself.")
        return signature

    def run(self, inputs: Arrays, cancellation: Cancellation | None = None) -> dict[str, np.ndarray]:
        """One inference: every input by name, every output by name; shapes and dtypes are the model's.

        `cancellation` ends it from another thread, before the next operator; an engine runs to its end.

        Raises:
            InputError: a name is missing or unknown; an array has another type, byte order or shape than declared.
        """
        runner = self._open()
        if not isinstance(inputs, Mapping):
            saw = f"inputs as a {type(inputs).__name__}"
            raise InputError(saw, "arrays by name", f"Give {{{runner.input_names[0]!r}: array}}.")
        if set(inputs) != set(runner.input_names):
            raise InputError(
                f"inputs {', '.join(sorted(map(str, inputs))) or 'none'}",
                f"{', '.join(runner.input_names)}",
                f"Give every input of {self.path.name} by its name.",
            )
        if cancellation is None or self._kind is ENGINE:
            return runner.run(inputs)
        return runner.run(inputs, cancellation)  # type: ignore[call-arg]

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


def _engine_runner(path: Path, trust: Trust, contexts: int, cuda_graph: bool) -> Runner:
    from .tensorrt import TensorRTRunner

    return TensorRTRunner(path, trust, contexts=contexts, cuda_graph=cuda_graph)


def _onnx_runner(
    path: Path,
    threads: int | None,
    providers: Sequence[Wanted] | None,
    layout: bool | None,
    kernel: str | None,
    flush_subnormals: bool,
    profile: Profile | None,
) -> Runner:
    if artifact_kind(path) is not ONNX:
        saw = f"{path.name}, which no runtime opens"
        raise InputError(saw, "an .onnx, .engine or .xml file", "Give the exported file.")
    from .onnxruntime import OnnxRunner

    return OnnxRunner(path, threads, providers, layout, kernel, flush_subnormals, profile)
