"""The one place that opens a session of ONNX Runtime: quiet, of any size, on the CPU unless told otherwise.

`runtimes.onnxruntime` chooses the kernels, threads and providers of a user's session, and opens it here.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .providers import CPU

if TYPE_CHECKING:
    import onnx

from ..errors import InputError
from ..tensors.signature import Feed

# What protobuf takes in one piece, with room to spare.
_LARGEST = (1 << 31) - (64 << 20)


# Of this process and of those that it starts: candidates, subjects and models have processes of their own.
_LIBRARIES = "APA_ORT_LIBRARIES"
_ON_CPU: Sequence[tuple[str, dict[str, str]]] = ((CPU, {}),)


def session_options(threads: int | None = None) -> Any:
    """`onnxruntime.SessionOptions` with the thread count; None: one thread a core."""
    import onnxruntime

    from .ort_faults import EXACT_PRODUCTS

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised; ONNX Runtime would print it as well
    options.add_session_config_entry(*EXACT_PRODUCTS)
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def use_libraries(paths: Sequence[Path]) -> None:
    """Let every session from now on, in child processes too, have the custom operators of these libraries.

    Raises:
        InputError: one of them is missing, or is no such library.
    """
    for path in paths:
        if not path.is_file():
            raise InputError(f"--ort-library {path}: no such file", "a library of operators", "Check the path.")
        try:
            session_options().register_custom_ops_library(str(path.resolve()))
        except Exception as error:
            saw = f"--ort-library {path}: {str(error).splitlines()[0]}"
            wanted = "a library of custom operators that ONNX Runtime loads"
            raise InputError(saw, wanted, "Build it for this machine and this ONNX Runtime.") from error
    os.environ[_LIBRARIES] = os.pathsep.join(str(path.resolve()) for path in paths)


def open_session(
    model: Path | str | bytes | onnx.ModelProto,
    *,
    library: Path | None = None,
    optimise: bool = True,
    options: Any = None,
    providers: Sequence[tuple[str, dict[str, str]]] = _ON_CPU,
) -> Any:
    """An `onnxruntime.InferenceSession`.

    Args:
        library: custom operators to register.
        optimise: whether ONNX Runtime may rewrite the graph.
        options: `session_options` with more set; None: as they are.
        providers: name and options of each.
    """
    import onnxruntime

    from .ort_faults import passes_that_crash

    options = options or session_options()
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    optimises = options.graph_optimization_level != onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    without = passes_that_crash(model) if optimises else []  # before it is bytes that would be parsed again
    if not isinstance(model, Path | bytes | str):
        if sum(len(tensor.raw_data) for tensor in model.graph.initializer) >= _LARGEST:
            with tempfile.TemporaryDirectory(prefix="apa-") as folder:
                path = Path(folder) / "model.onnx"
                save_model(model, path)
                return open_session(path, library=library, optimise=optimise, options=options, providers=providers)
        model = model.SerializeToString()
    if library:
        options.register_custom_ops_library(str(library))
    for name in filter(None, os.environ.get(_LIBRARIES, "").split(os.pathsep)):
        options.register_custom_ops_library(name)
    source = _utf8(model) if isinstance(model, Path) else model
    names, details = zip(*providers, strict=True)
    return onnxruntime.InferenceSession(
        source, options, providers=list(names), provider_options=list(details), disabled_optimizers=without
    )


def _utf8(path: Path) -> str:
    """The path as ONNX Runtime takes it, whatever the locale says of the bytes of its name."""
    try:
        return os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError as error:
        wanted = "a path of UTF-8, as ONNX Runtime takes no other"
        raise InputError(f"{str(path)!a}: a name that is no text", wanted, "Rename it.") from error


class EndlessError(InputError):
    """A run does not come to an end. `limit_s`."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"a run that takes more than {limit_s:g} s", "loops that end", "Check the model's loops.")
        self.limit_s = limit_s


def run_within(session: Any, names: Sequence[str], feed: Feed, limit_s: float) -> list[Any]:
    """`session.run`, ended after so many seconds: a loop of the model may have no end.

    Raises:
        EndlessError: it was.
    """
    import onnxruntime

    options, late = onnxruntime.RunOptions(), threading.Event()

    def end() -> None:
        late.set()
        options.terminate = True

    timer = threading.Timer(limit_s, end)
    timer.start()
    try:
        return list(session.run(list(names), feed, options))
    except Exception as error:
        if late.is_set():
            raise EndlessError(limit_s) from error
        raise
    finally:
        timer.cancel()


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Write `model`, its weights beside it; its tensors then say that they lie there."""
    import onnx

    onnx.save_model(model, path, save_as_external_data=True, location=path.name + ".data", size_threshold=1024)
