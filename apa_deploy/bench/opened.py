"""Open a subject on its runtime: a function of no arguments that does one inference. Runs in the worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..measure.subject import ONLY, Subject, batch_shape
from ..records.placement import KernelPlacement
from ..runtimes.providers import SESSIONS
from ..tensors.signature import TensorSpec

Infer = Callable[[], Any]


@dataclass(frozen=True)
class Opened:
    """`infer`: one inference on seeded inputs. `runtime`: its name and version.

    `find_placement`: which kernels run the activations; None where the runtime does not say it.
    """

    infer: Infer
    runtime: str
    find_placement: Callable[[], KernelPlacement | None] = lambda: None


def open_subject(subject: Subject, batch: int, threads: int | None) -> Opened:
    """The subject on its runtime.

    Raises:
        ApaError: the artifact does not load, or does not take this batch.
    """
    if subject.runtime.startswith("torch"):
        return _torch(subject, batch, threads)
    if subject.runtime == "openvino":
        return _openvino(subject, batch, threads)
    return _session(subject, batch, threads)


def arrays(feeds: tuple[TensorSpec, ...], batch: int) -> dict[str, np.ndarray]:
    """Seeded inputs: standard normal floats, whole numbers from 0 to 255 for pixels, ones for the rest."""
    return {feed.name: _array(batch_shape(feed, batch), feed.dtype) for feed in feeds}


def _array(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    generator = np.random.default_rng(0)
    if dtype == "uint8":
        return generator.integers(0, 256, shape, dtype=np.uint8)
    if "float" in dtype:
        return generator.standard_normal(shape, dtype=np.float32).astype(_numpy(dtype))
    return np.ones(shape, dtype)


def _numpy(dtype: str) -> Any:
    if dtype == "bfloat16":
        import ml_dtypes

        return ml_dtypes.bfloat16
    return np.dtype(dtype)


def _session(subject: Subject, batch: int, threads: int | None) -> Opened:
    from ..runtimes.session import Session

    providers = SESSIONS.get(subject.runtime)
    inputs = arrays(subject.feeds, batch)
    profile = {name: (array.shape,) * 3 for name, array in inputs.items()}
    session = Session(subject.path, threads=threads, providers=providers, flush_subnormals=True, profile=profile)
    if set(inputs) == {ONLY}:
        inputs = {session.input_names[0]: inputs[ONLY]}
    return Opened(lambda: session.run(inputs), _version(subject.runtime), lambda: session.find_placement(inputs))


def _openvino(subject: Subject, batch: int, threads: int | None) -> Opened:
    """In float32, as the other runtimes compute."""
    from ..runtimes.openvino import compile_model

    request = compile_model(Path(subject.path), threads).create_infer_request()
    inputs = arrays(subject.feeds, batch)
    return Opened(lambda: request.infer(inputs, share_inputs=True), _version("openvino"))


def _torch(subject: Subject, batch: int, threads: int | None) -> Opened:
    import torch

    from ..loading.load import load
    from ..tensors.inputs import seeded_feeds

    if threads:
        torch.set_num_threads(threads)
    network = load(subject.path, **subject.loading)
    from ..measure.twins import with_plain

    module = with_plain(network.module, subject.plain) if subject.plain else network.module
    inputs = [torch.from_numpy(array) for array in seeded_feeds(network.signature, batch)[0].values()]
    run = torch.compile(module) if subject.runtime == "torch-compile" else module

    def infer() -> Any:
        with torch.inference_mode():
            return run(*inputs)

    return Opened(infer, _version(subject.runtime))


def _version(runtime: str) -> str:
    from importlib import metadata

    package = "onnxruntime-gpu" if SESSIONS.get(runtime) else runtime.split("-")[0]
    try:
        return f"{runtime} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return runtime
