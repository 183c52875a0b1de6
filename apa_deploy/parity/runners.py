"""Polygraphy runners over a network, and over outputs that another process or machine recorded."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata
from polygraphy.logger import G_LOGGER

from ..network import FLOAT32, FLOAT32_AGAIN, Network
from ..tensors.inputs import one_ulp_off
from ..tensors.signature import Feed


def metadata_of(feed: Feed) -> TensorMetadata:
    """What Polygraphy wants to know of inputs such as those of `feed`: any number of samples."""
    metadata = TensorMetadata()
    for name, array in feed.items():
        metadata.add(name, dtype=array.dtype, shape=(-1, *array.shape[1:]) if array.ndim else ())
    return metadata


def run_network(network: Network, feed: Feed, dtype: str) -> Feed:
    """`network.outputs` of a dtype of its own, or of "float32 again"."""
    return network.outputs(*((one_ulp_off(feed), FLOAT32) if dtype == FLOAT32_AGAIN else (feed, dtype)))


class NetworkRunner(BaseRunner):
    """A network in one precision of `run_network`; `names`: the outputs to give, default: all."""

    def __init__(
        self, network: Network, feed: Feed, dtype: str, name: str, names: Sequence[str] | None = None
    ) -> None:
        super().__init__(name=name)
        self._network, self._feed, self._dtype, self._names = network, feed, dtype, names

    def get_input_metadata_impl(self) -> TensorMetadata:
        return metadata_of(self._feed)

    def infer_impl(self, feed_dict: Feed) -> Feed:
        start = time.perf_counter()
        values = run_network(self._network, feed_dict, self._dtype)
        self.inference_time = time.perf_counter() - start
        return {name: values[name] for name in self._names} if self._names is not None else values


class RecordedRunner(BaseRunner):
    """Plays recorded outputs back, one set a call."""

    def __init__(self, recorded: Sequence[Feed], feed: Feed, name: str) -> None:
        super().__init__(name=name)
        self._recorded, self._feed = recorded, feed

    def activate_impl(self) -> None:
        self._next = iter(self._recorded)

    def get_input_metadata_impl(self) -> TensorMetadata:
        return metadata_of(self._feed)

    def infer_impl(self, feed_dict: Feed) -> Feed:
        self.inference_time = 0.0
        return dict(next(self._next))


@contextmanager
def quiet_polygraphy() -> Iterator[None]:
    """Polygraphy reports by its logger, of empty tensors by warnings; our own report says what matters."""
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        yield
