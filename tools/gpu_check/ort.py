"""AGLU in ONNX Runtime on its CUDA provider: our operator and the function body, with CUDA graph and without,
beside torch where it sees the GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from apa_deploy.errors import ApaError
from apa_deploy.maths import Parameters, aglu_float64
from apa_deploy.measure.turns import ratio_interval, take_turns, time_ms
from apa_deploy.require import require
from apa_deploy.runtimes.ort_gpu import require_gpu, require_started
from apa_deploy.runtimes.ort_session import open_session, session_options
from apa_deploy.runtimes.providers import CUDA, choose_providers

from .beside import ELEMENTS, MIB, PARAMETERS, TURNS, WARM_UP, torch_timers
from .outcome import Outcome, State

FUSED, BODY, GRAPH = "AGLU fused", "AGLU body", ", CUDA graph"
# Over max(1, |y|): the kernels' bound (plugins/tests/trt_reference.h), and half a last place of the half type.
MOST_ERROR = {"float32": 1.5e-6, "float16": 1.5e-6 + 2**-11}
_JUDGED = 1 << 16  # elements at each end
_ONLY_HERE = ("session.disable_cpu_ep_fallback", "1")  # our operator on the CPU would be another one


def check_operators(
    library: Callable[[], Path],
    provider: str = CUDA,
    sizes: tuple[float, ...] = MIB,
    turns: int = TURNS,
    keep: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:
    """Each way of each type and size (MiB) in milliseconds; our operator is held to its bound against float64.

    Args:
        library: our operators for `provider`; asked for where the provider is.
        keep: takes what is known so far.

    Raises:
        MissingError: ONNX Runtime, this provider, or what it needs, is not here.
    """
    ort = require("onnxruntime")
    choose_providers([provider], ort.get_available_providers(), None)
    if provider == CUDA:
        require_gpu(ort, [provider])
    outcome, path = Outcome("onnxruntime", State.PASSED, facts={"onnxruntime": ort.__version__}), library()
    for element in ELEMENTS:
        for mib in sizes:
            bench = _Bench(ort, provider, element, int(mib * 2**20) // np.dtype(element).itemsize, path)
            row = {"element": element, "MiB": mib, **_row(bench.measure(turns))}
            outcome.rows.append(row | {"worst error": max(bench.errors, default=None)})
            wrong = [error for error in bench.errors if not error <= MOST_ERROR[element]]
            bench.refused += [f"{element}: an error of {error:.3g}" for error in wrong]
            if bench.refused:
                outcome.state = State.FAILED
                outcome.reason = "; ".join(filter(None, [outcome.reason, *bench.refused]))
            keep(outcome)
    return outcome


class _Bench:
    """One unit over one tensor, which lies where the provider computes. `refused`: ways that did not start."""

    def __init__(self, ort: Any, provider: str, element: str, count: int, library: Path) -> None:
        self._ort, self._provider, self._library = ort, provider, library
        self._device = "cuda" if provider == CUDA else "cpu"
        self.refused: list[str] = []
        some = np.random.default_rng(3).normal(0, 3, min(count, 1 << 20))
        self._values = np.resize(some, count).astype(element)
        self._x = ort.OrtValue.ortvalue_from_numpy(self._values, self._device, 0)
        self._model = _one_unit(element)
        self.errors: list[float] = []

    def measure(self, turns: int) -> dict[str, list[float]]:
        """Milliseconds of every way, in turns."""
        ways: dict[str, Callable[[], Callable[[], float]]] = {}
        for graph in ("", GRAPH) if self._provider == CUDA else ("",):
            ways |= {name + graph: partial(self._start, name, bool(graph)) for name in (FUSED, BODY)}
        ways |= {name: partial(_warm, timer) for name, timer in self._torch_timers().items()}
        timers = {}
        for name, start in ways.items():
            try:
                timers[name] = start()
            except ApaError:
                raise
            except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no other base in common
                self.refused.append(f"{name}: {(str(error) or repr(error)).splitlines()[0]}")
        return take_turns(timers, turns, warm_up=WARM_UP)

    def _start(self, name: str, graph: bool) -> Callable[[], float]:
        """A timer of one run, to its end. The first run, which a graph is recorded in, is over."""
        options, library = session_options(), self._library if name == FUSED else None
        if library and self._provider == CUDA:
            options.add_session_config_entry(*_ONLY_HERE)
        providers = [(self._provider, {"enable_cuda_graph": "1"} if graph else {})]
        session = open_session(self._model, library=library, options=options, providers=providers)
        require_started(session, [self._provider])
        y = self._ort.OrtValue.ortvalue_from_shape_and_type(
            self._values.shape, self._values.dtype.type, self._device, 0
        )
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", self._x)
        binding.bind_ortvalue_output("y", y)

        def run() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        run()
        run()  # of a graph, the first replay
        if library:
            self.errors.append(self._worst_error(y.numpy()))
        return partial(time_ms, run)

    def _worst_error(self, y: np.ndarray) -> float:
        ends = np.r_[: min(_JUDGED, y.size), max(0, y.size - _JUDGED) : y.size]
        exact = aglu_float64(self._values[ends], *(np.float32(value) for value in PARAMETERS))
        return float(np.max(np.abs(y[ends] - exact) / np.maximum(1, np.abs(exact))))

    def _torch_timers(self) -> dict[str, Callable[[], float]]:
        try:
            import torch
        except ImportError:
            return {}
        if self._device == "cuda" and not torch.cuda.is_available():
            return {}
        return torch_timers(torch, torch.from_numpy(self._values).to(self._device))


def _warm(timer: Callable[[], float]) -> Callable[[], float]:
    """A way of torch that has run once: it compiles, or fails, in its first run."""
    timer()
    return timer


def _one_unit(element: str) -> Any:
    """A model of one AGLU with its function body."""
    import onnx

    from apa_deploy.graph.functions import with_functions
    from apa_deploy.graph.node import make_node

    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(element))
    x, y = (onnx.helper.make_tensor_value_info(name, kind, ["N"]) for name in ("x", "y"))
    lambda_, kappa = PARAMETERS
    node = make_node("AGLU", "x", "y", Parameters((lambda_,), (kappa,)), "unit")
    domains = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.apa", 1)]
    graph = onnx.helper.make_graph([node], "one_unit", [x], [y])
    return with_functions(onnx.helper.make_model(graph, opset_imports=domains, ir_version=8))


def _row(samples: Mapping[str, list[float]]) -> dict[str, float]:
    """Medians in ms, and our operator over the body: the median of pairs of turns."""
    row = {f"{name}, ms": round(median(times), 4) for name, times in samples.items()}
    for graph in ("", GRAPH):
        if FUSED + graph in samples and BODY + graph in samples:
            row[f"fused/body{graph}"] = round(ratio_interval(samples[FUSED + graph], samples[BODY + graph])[1], 3)
    return row
