"""Open a subject on its runtime: a function of no arguments that does one inference. Runs in the worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..measure.subject import ONLY, Subject, batch_shape
from ..tensors.signature import TensorSpec

Infer = Callable[[], Any]
_PACKAGES = {"onnxruntime-cuda": "onnxruntime-gpu"}
_CUDA = ("CUDAExecutionProvider", "CPUExecutionProvider")


def open_subject(subject: Subject, batch: int, threads: int | None) -> tuple[Infer, str]:
    """One inference on seeded inputs, and the runtime with its version.

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


def _session(subject: Subject, batch: int, threads: int | None) -> tuple[Infer, str]:
    from ..runtimes.session import Session

    providers = _CUDA if subject.runtime == "onnxruntime-cuda" else None
    session = Session(subject.path, threads=threads, providers=providers, flush_subnormals=True)
    inputs = arrays(subject.feeds, batch)
    if set(inputs) == {ONLY}:
        inputs = {session.input_names[0]: inputs[ONLY]}
    return lambda: session.run(inputs), _version(subject.runtime)


def _openvino(subject: Subject, batch: int, threads: int | None) -> tuple[Infer, str]:
    """In float32, as the other runtimes compute."""
    from ..runtimes.openvino import compile_model

    request = compile_model(Path(subject.path), threads).create_infer_request()
    inputs = arrays(subject.feeds, batch)
    return lambda: request.infer(inputs, share_inputs=True), _version("openvino")


def _torch(subject: Subject, batch: int, threads: int | None) -> tuple[Infer, str]:
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

    return infer, _version(subject.runtime)


def _version(runtime: str) -> str:
    from importlib import metadata

    try:
        return f"{runtime} {metadata.version(_PACKAGES.get(runtime, runtime.split('-')[0]))}"
    except metadata.PackageNotFoundError:
        return runtime
