"""What users of torch have: AGLU and SiLU in eager torch and in torch.compile, beside a copy of the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any

from apa_deploy.errors import MissingError
from apa_deploy.measure.turns import take_turns, time_ms

from .outcome import Outcome, State

TURNS, WARM_UP = 40, 10
PARAMETERS = (0.5, 1.1)  # lambda, kappa
MIB = (8, 64, 256)
ELEMENTS = ("float16", "float32")


def check_torch(
    device: str = "cuda",
    sizes: tuple[int, ...] = MIB,
    turns: int = TURNS,
    keep: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:
    """The median of each way, and its ratio to the copy, for each type and size (MiB). `keep`: takes what is known.

    Raises:
        MissingError: torch is not there, or sees no GPU.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingError(f"torch: {error}", "torch with CUDA", "Run: pip install torch") from error
    if device == "cuda" and not torch.cuda.is_available():
        raise MissingError("torch sees no GPU", "torch with CUDA", "Run: pip install torch")
    outcome = Outcome("torch", State.PASSED, facts={"torch": torch.__version__})
    for element in ELEMENTS:
        for mib in sizes:
            kind = getattr(torch, element)
            x = torch.randn((mib << 20) // kind.itemsize, device=device).to(kind)
            samples = take_turns(torch_timers(torch, x), turns, warm_up=WARM_UP)
            outcome.rows.append({"element": element, "MiB": mib, **_row(samples)})
            keep(outcome)
    return outcome


def torch_timers(torch: Any, x: Any) -> dict[str, Callable[[], float]]:
    """Milliseconds of one run of each way, to its end."""
    from apa_deploy.modules import AGLU

    unit = AGLU(*PARAMETERS).eval()
    target = torch.empty_like(x)
    wait: Callable[[], Any] = torch.cuda.synchronize if x.is_cuda else lambda: None
    ways: dict[str, Callable[[], Any]] = {
        "copy": lambda: target.copy_(x),
        "AGLU eager": lambda: unit(x),
        "SiLU eager": lambda: torch.nn.functional.silu(x),
    }
    if x.is_cuda:  # on a CPU it wants a compiler, and is timed by apa-bench
        compiled, compiled_silu = torch.compile(unit), torch.compile(torch.nn.functional.silu)
        ways |= {"AGLU compiled": lambda: compiled(x), "SiLU compiled": lambda: compiled_silu(x)}

    def run(way: Callable[[], Any]) -> None:
        way()
        wait()

    def measure(way: Callable[[], Any]) -> float:
        with torch.inference_mode():
            return time_ms(partial(run, way))

    return {name: partial(measure, way) for name, way in ways.items()}


def _row(samples: Mapping[str, list[float]]) -> dict[str, float]:
    copy = median(samples["copy"])
    return {name: round(median(times) / copy, 3) for name, times in samples.items()} | {"copy ms": round(copy, 4)}
