"""Latency of the engines, without copies: with CUDA graph and without, in turns; clocks beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from apa_deploy.errors import InputError
from apa_deploy.measure.turns import take_turns, time_ms
from apa_deploy.native import trt_plugin_library
from apa_deploy.require import require
from apa_deploy.runtimes.device import Device

from .analysis import percentiles, ratios_to, verdict
from .clocks import Watch
from .engines import DECOMPOSED, PLUGIN, TWIN
from .outcome import Outcome, State

WARM_UP = 50
BLOCKS, A_BLOCK = 30, 10
BATCHES = (1, 8)
_WIDEST = 8  # bytes of the widest element type


class OnDevice:
    """One engine with its memory on the device, at one shape. `launch` and `launch_graph` return at once.

    Args:
        trt: the module `tensorrt`.
        shape: of the input, batch first.

    Raises:
        InputError: the engine does not take the shape.
    """

    def __init__(self, trt: Any, device: Device, engine: Any, shape: Sequence[int]) -> None:
        self._device, self.stream = device, device.stream()
        self._context = engine.create_execution_context()
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        for name in inputs:
            if not self._context.set_input_shape(name, tuple(shape)):
                raise InputError(
                    f"{name} of shape {tuple(shape)}", "a shape of the engine's profile", "See --model."
                )
        for name in names:
            size = math.prod(tuple(self._context.get_tensor_shape(name))) * _WIDEST
            self._context.set_tensor_address(name, device.allocate(size))
        self.launch()  # what TensorRT put off until the first run must not be recorded
        device.synchronize(self.stream)
        self._graph = device.capture_graph(self.stream, self.launch)

    def launch(self) -> bool:
        """Enqueue one inference."""
        return bool(self._context.execute_async_v3(self.stream))

    def launch_graph(self) -> None:
        """The same, recorded."""
        self._device.launch(self._graph, self.stream)

    def time(self, launch: Callable[[], Any]) -> float:
        """Milliseconds from launch to end."""

        def run() -> None:
            launch()
            self._device.synchronize(self.stream)

        return time_ms(run)


def load_engines(trt: Any, engines: Mapping[str, Path], plugin: Path | None) -> dict[str, Any]:
    """The engines, deserialized; the plugin is registered before."""
    trt.get_plugin_registry().load_library(str(plugin or trt_plugin_library()))
    runtime = trt.Runtime(trt.Logger())
    found = {name: runtime.deserialize_cuda_engine(path.read_bytes()) for name, path in engines.items()}
    if refused := [name for name, engine in found.items() if engine is None]:
        raise InputError(
            f"TensorRT does not load {', '.join(refused)}", "engines built here", "See what it printed."
        )
    return found


def measure_latency(
    engines: Mapping[str, Path],
    plugin: Path | None,
    sample: Sequence[int],
    keep: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:
    """Every engine at every batch, graph on and off.

    Args:
        sample: the shape of one input, without the batch.
        keep: takes what is known so far.

    Raises:
        MissingError: tensorrt, cuda-python or a GPU is missing.
    """
    trt = require("tensorrt")
    device = Device()
    found, samples = load_engines(trt, engines, plugin), dict[str, dict[str, list[float]]]()
    with Watch() as watch:
        for batch in BATCHES:
            ready = {name: OnDevice(trt, device, engine, (batch, *sample)) for name, engine in found.items()}
            for graph in (False, True):
                timers = {name: _timer(one, graph) for name, one in ready.items()}
                samples[f"batch {batch}, CUDA graph {'on' if graph else 'off'}"] = in_turns(timers)
                keep(sum_up(samples, {}))
    return sum_up(samples, watch.facts())


def _timer(one: OnDevice, graph: bool) -> Callable[[], float]:
    return lambda: one.time(one.launch_graph if graph else one.launch)


def in_turns(timers: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Blocks of a few runs by turns."""
    return take_turns(timers, BLOCKS, warm_up=WARM_UP, block=A_BLOCK)


def sum_up(samples: Mapping[str, Mapping[str, Sequence[float]]], clocks: dict[str, object]) -> Outcome:
    """Percentiles, ratios to the SiLU twin and a verdict for each setting; raw samples are kept."""
    rows, verdicts = [], {}
    for setting, by_engine in samples.items():
        figures = {name: percentiles(values) for name, values in by_engine.items()}
        medians = {name: found["p50"] for name, found in figures.items()}
        ratios = ratios_to(medians, TWIN if TWIN in medians else next(iter(medians)))
        for name, found in figures.items():
            shown = {key: round(value, 4) for key, value in found.items()}
            rows.append({"setting": setting, "engine": name, **shown, "over twin": ratios[name]})
        if PLUGIN in ratios and DECOMPOSED in ratios:
            verdicts[setting] = verdict(by_engine[PLUGIN], by_engine[DECOMPOSED])
    facts = {"verdicts": verdicts, "clocks": clocks, "unit": "ms, launch to end, no copies", "samples": samples}
    return Outcome("latency", State.PASSED, rows=rows, facts=facts)
