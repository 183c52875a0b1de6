"""ONNX Runtime, with our operators registered where they belong."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import InputError, MissingError
from ..escaping import printable
from ..graph.node import DOMAIN, activations, all_activations
from ..graph.read import read_graph
from ..native import LibraryError, ort_library, trt_plugin_library
from ..records.placement import KernelPlacement
from ..require import require
from ..tensors.signature import Profile
from .arguments import as_declared
from .cancellation import Cancellation
from .ort_gpu import explain_old_driver, require_gpu, require_started
from .ort_session import open_session, session_options
from .ort_tensorrt import complete_options, without_fault
from .placement import RECORD_ENTRY, PlacedNode, judge_placement, placed_by_profile, placed_by_session
from .providers import TENSORRT, Choice, Wanted, choose_providers

KERNELS = ("exact", "acc", "pw")
_VECTORS, _VECTORS_VARIABLE = ("avx512", "avx2", "none"), "APA_MAX_ISA"
_KERNEL_ENTRY, _KERNEL_VARIABLE = "com.apa.kernel", "APA_KERNEL"
_FLUSH_ENTRY = "session.set_denormal_as_zero"
# Of another type than ours; on a driver or GPU that the library is not built for; or, where the provider has not
# started, on the CPU.
_NO_KERNEL = re.compile(
    r"Type 'tensor\(.*\(A(PA|GLU)\)|cannot be prepared\. CUDA says"
    r"|[Ff]ind (kernel|an implementation) for .*A(PA|GLU)\(1\)"
)
_NO_BODY = "Build libapa_ort.so (pip install .), or export the model again, with function bodies."


class OnnxRunner:
    """A `Runner` over `onnxruntime.InferenceSession`, whose `run` is safe from several threads."""

    def __init__(
        self,
        path: Path,
        threads: int | None,
        providers: Sequence[Wanted] | None,
        layout: bool | None = None,
        kernel: str | None = None,
        flush_subnormals: bool = False,
        profile: Profile | None = None,
    ) -> None:
        ort = require("onnxruntime")
        self._path, self._kernel, self._ort = path, kernel, ort
        self._choice = check_providers(providers)
        if TENSORRT in self._choice.needs_nvidia:
            self._choice = complete_options(self._choice, path, profile, ort.__version__)
        self._make_options = partial(_options, threads, flush_subnormals)
        self.prepared: Path | None = None
        self._session = self._open(self._make_options, lambda: _prepare(path, layout))
        self._run_options = ort.RunOptions
        self._inputs = {
            value.name: (_numpy_type(value.type), tuple(value.shape)) for value in self._session.get_inputs()
        }
        self.input_names = tuple(self._inputs)
        self.output_names = tuple(value.name for value in self._session.get_outputs())

    def run(
        self, inputs: Mapping[str, np.ndarray], cancellation: Cancellation | None = None
    ) -> dict[str, np.ndarray]:
        session, options = self._session, None
        arrays = {name: as_declared(name, value, *self._inputs[name]) for name, value in inputs.items()}
        if cancellation:
            options = self._run_options()
            cancellation.on_request(partial(setattr, options, "terminate", True))
        try:
            values = session.run(self.output_names, arrays, options)
        except Exception as error:
            raise _refusal(error, "inputs of the model's shapes and dtypes") from error
        return dict(zip(self.output_names, values, strict=True))

    def find_placement(self, inputs: Mapping[str, np.ndarray] | None) -> KernelPlacement | None:
        """Which kernels run the activations. `inputs`: for a version that says it in the profile of a run alone."""
        placed, counted = placed_by_session(self._session), all_activations
        if placed is None and inputs is not None:  # of an If's branches, a run shows the one that it takes
            placed, counted = self._profile(inputs), activations
        if placed is None:
            return None
        count = sum(1 for _ in counted(read_graph(self._path).graph))
        return judge_placement(placed, count, self._choice.providers[0][0])

    def _profile(self, inputs: Mapping[str, np.ndarray]) -> tuple[PlacedNode, ...]:
        """In a second session, for a profile takes time in every run."""
        with tempfile.TemporaryDirectory(prefix="apa-") as folder:
            session = self._open(partial(self._make_options, profile=f"{folder}/run"), lambda: self.prepared)
            session.run(None, dict(inputs))
            return placed_by_profile(json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")))

    def _open(self, make_options: Callable[[], Any], prepare: Callable[[], Path | None]) -> Any:
        if self._choice.needs_nvidia:
            return _gpu_session(self._ort, self._path, self._choice, make_options)
        options = make_options()
        if self._choice.library == "cpu" and register_operators(options, self._kernel):
            self.prepared = prepare()
        if self.prepared:
            options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return _session(self._ort, self.prepared or self._path, options, self._choice)

    def close(self) -> None:
        del self._session


def check_providers(wanted: Sequence[Wanted] | None) -> Choice:
    """What `choose_providers` says, where a session of these can start on this machine.

    Raises:
        MissingError: the package, a GPU, its driver or a library is not here.
        InputError: there is no such provider.
    """
    ort = require("onnxruntime")
    available = ort.get_available_providers()
    if needed := choose_providers(wanted, available).needs_nvidia:
        require_gpu(ort, needed)  # before the plugin is looked at, of which there may be something to say
    return choose_providers(wanted, available, _plugin)


def _options(threads: int | None, flush_subnormals: bool, profile: str = "") -> Any:
    """`profile`: where to write one, without the end of its name."""
    options = session_options(threads)
    options.enable_profiling = bool(profile)
    if profile:
        options.profile_file_prefix = profile
    options.add_session_config_entry(*RECORD_ENTRY)
    if flush_subnormals:
        set_subnormals_to_zero(options)
    return options


def _numpy_type(declared: str) -> np.dtype[Any] | None:
    """The array type behind e.g. "tensor(float)"; None for those that numpy has not."""
    name = {"float": "float32", "double": "float64"}.get(inner := declared[7:-1], inner)
    return np.dtype(name) if re.fullmatch(r"bool|u?int(8|16|32|64)|float(16|32|64)", name) else None


def set_subnormals_to_zero(options: Any) -> None:
    """Have the session that `options` are for count numbers below the smallest normal one as 0.

    Raises:
        InputError: the calling thread does not, so that a result would depend on the thread that computed it.
    """
    flush_subnormals_from_here()
    if platform.machine() in ("x86_64", "AMD64") and np.float32(1.5e-38) * np.float32(0.5) != 0:
        saw = "flush_subnormals, after ONNX Runtime's first session in this process or in a thread older than that"
        wanted = "it with the process's first session, which alone reaches the calling thread"
        raise InputError(saw, wanted, "Open this session first, or leave flush_subnormals out.")
    options.add_session_config_entry(_FLUSH_ENTRY, "1")


@cache
def flush_subnormals_from_here() -> None:
    """The same in the calling thread and every thread that it starts later; only in a process of our own.

    ONNX Runtime does it at the first session of a process alone, so this must come before all others: to prepare a
    model opens some.
    """
    import onnx

    options = session_options(threads=1)
    options.add_session_config_entry(_FLUSH_ENTRY, "1")
    model = '<ir_version: 8, opset_import: ["": 18]> g (float[1] x) => (float[1] y) { y = Identity (x) }'
    open_session(onnx.parser.parse_model(model), options=options)


def register_operators(options: Any, kernel: str | None = None) -> bool:
    """Register our operators; where that is not possible say so once, for the model runs all the same.

    Args:
        kernel: one of KERNELS; None: the environment's APA_KERNEL, or else the fastest within the error bound.

    Raises:
        InputError: there is no such kernel, or the environment's APA_MAX_ISA is none.
    """
    _check(kernel, "a kernel", KERNELS)
    _check(os.environ.get(_KERNEL_VARIABLE), _KERNEL_VARIABLE, KERNELS)
    _check(os.environ.get(_VECTORS_VARIABLE), _VECTORS_VARIABLE, _VECTORS)
    if kernel:
        options.add_session_config_entry(_KERNEL_ENTRY, kernel)  # read as the library is registered
    return _register(options, "cpu")


def _register(options: Any, provider: Literal["cpu", "cuda"]) -> bool:
    try:
        options.register_custom_ops_library(str(ort_library(provider)))
        return True
    except LibraryError as error:
        _fall_back(str(error))
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no other base in common
        _fall_back(f"{_text(error)}. Install apa-deploy again: pip install --force-reinstall --no-deps .")
    return False


def _check(name: str | None, what: str, known: Sequence[str]) -> None:
    if name and name not in known:
        raise InputError(f"{what} named {name!r}", ", ".join(known), "Name one of these, or leave it out.")


@cache
def _fall_back(reason: str) -> None:
    print(printable(f"apa-deploy: {reason} The model's function bodies run instead."), file=sys.stderr)


def _session(ort: Any, path: Path, options: Any, choice: Choice) -> Any:
    try:
        return open_session(path, options=options, providers=choice.providers)
    except Exception as error:
        if other := without_fault(choice, str(error)):
            return _session(ort, path, options, other)
        raise _refusal(error, f"{path.name} to load in ONNX Runtime {ort.__version__}") from error


def _gpu_session(ort: Any, path: Path, choice: Choice, make_options: Callable[[], Any]) -> Any:
    """With the operators for CUDA where they take the model's types, else with its function bodies.

    Raises:
        MissingError: a provider cannot start; ONNX Runtime would run the model on the CPU.
    """
    options = make_options()
    if choice.library == "cuda" and _driver_serves_operators(path) and _register(options, "cuda"):
        try:
            session = _session(ort, path, options, choice)
        except InputError as error:
            if not _NO_KERNEL.search(error.saw):
                raise
            session = _session(ort, path, make_options(), choice)
            require_started(session, choice.needs_nvidia)
            _fall_back(f"the operators for CUDA do not run it. {error.saw}.")
    else:
        session = _session(ort, path, options, choice)
    require_started(session, choice.needs_nvidia)
    return session


def _driver_serves_operators(path: Path) -> bool:
    """Whether the driver can run our operators for CUDA; where it is too old, function bodies run instead.

    Raises:
        MissingError: it is, and the model has none.
    """
    try:
        lacking = explain_old_driver(ort_library("cuda"))
    except LibraryError:  # said as it is registered
        return True
    if lacking is None:
        return True
    model = read_graph(path)
    if any(all_activations(model.graph)) and not any(function.domain == DOMAIN for function in model.functions):
        raise MissingError(*lacking[:2], f"{lacking[2]}, or export the model again, with function bodies.")
    _fall_back("{}; wanted {}. {}.".format(*lacking))
    return False


def _refusal(error: Exception, wanted: str) -> InputError:
    text = _text(error)
    do = _NO_BODY if "com.apa" in text and "not a registered" in text else "Check the file and what is given to it."
    return InputError(f"ONNX Runtime says: {text}", wanted, do)


def _text(error: Exception) -> str:
    return str(error).removeprefix("[ONNXRuntimeError] : ").strip()


def _prepare(path: Path, layout: bool | None) -> Path | None:
    """The model in the blocked layout, where our operators can be registered at all."""
    from .prepared import prepare_model

    return prepare_model(path, layout)


def _plugin() -> Path | None:
    """For TensorRT's provider; None where it is not built, or the driver is too old for it."""
    try:
        library = trt_plugin_library()
    except LibraryError:
        return None
    lacking = explain_old_driver(library)
    if lacking:
        _fall_back("{}; wanted {}. {}.".format(*lacking))
    return None if lacking else library
