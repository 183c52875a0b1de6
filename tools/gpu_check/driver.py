"""What `Session` asks of the driver, on the real one: copies, growth, threads, and a recording that others do not
disturb. Needs cuda-python and a GPU; no TensorRT."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from apa_deploy.measure.turns import time_ms
from apa_deploy.runtimes.device import Device

from .outcome import Outcome, State

THREADS, ROUNDS, SIZES = 4, 50, (1, 4097, 3 << 20)
LARGE = 64 << 20


def check_driver() -> Outcome:
    """Each check a row.

    Raises:
        MissingError: cuda-python or a GPU is missing.
    """
    device = Device()
    checks = {
        "copies": _copies,
        "page-locked copies": _staged,
        "threads with streams of their own": _threads,
        "recording": _recording,
    }
    rows = [{"check": name, "good": check(device)} for name, check in checks.items()]
    facts = {f"copy to the device and back, {LARGE >> 20} MiB, GB/s": _speeds(device)}
    device.close()
    wrong = [row["check"] for row in rows if not row["good"]]
    state = State.FAILED if wrong else State.PASSED
    reason = f"wrong: {', '.join(map(str, wrong))}" if wrong else ""
    return Outcome("driver", state, reason, rows=rows, facts=facts)


def _copies(device: Device) -> bool:
    return all(_comes_back(device, size, seed) for seed, size in enumerate(SIZES * 3))


def _comes_back(device: Device, size: int, seed: int) -> bool:
    """Bytes to the device and back."""
    given = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    found, stream = np.zeros_like(given), device.stream()
    pointer = device.allocate(size)
    device.upload(pointer, given, stream)
    device.download(found, pointer, stream)
    device.synchronize(stream)
    device.free(pointer)
    device.free_stream(stream)
    return bool((given == found).all())


def _staged(device: Device) -> bool:
    """Through page-locked memory, which a `Session` has for each tensor."""
    memory = device.allocate_staging(SIZES[-1])
    memory[:] = np.random.default_rng(1).integers(0, 256, len(memory), np.uint8)
    given, stream, pointer = memory.copy(), device.stream(), device.allocate(len(memory))
    device.upload(pointer, memory, stream)
    device.synchronize(stream)
    memory[:] = 0
    device.download(memory, pointer, stream)
    device.synchronize(stream)
    good = bool((memory == given).all())
    device.free(pointer)
    device.free_stream(stream)
    device.free_staging(memory)
    return good


def _speeds(device: Device) -> dict[str, float]:
    """The best of a few, from ordinary memory and from page-locked."""
    staging, found = device.allocate_staging(LARGE), {}
    stream, pointer = device.stream(), device.allocate(LARGE)
    for name, memory in (("ordinary", np.ones(LARGE, np.uint8)), ("page-locked", staging)):
        memory[:] = 1  # every page is there

        def copy(memory: np.ndarray = memory) -> None:
            device.upload(pointer, memory, stream)
            device.download(memory, pointer, stream)
            device.synchronize(stream)

        found[name] = round(2 * LARGE / min(time_ms(copy) for _ in range(5)) / 1e6, 2)
    device.free(pointer)
    device.free_stream(stream)
    device.free_staging(staging)
    return found


def _threads(device: Device) -> bool:
    good = [False] * THREADS

    def copy(number: int) -> None:
        device.enter()
        good[number] = all(_comes_back(device, 1 << 16, number * ROUNDS + i) for i in range(ROUNDS))

    return _run_threads([partial(copy, number) for number in range(THREADS)]) and all(good)


def _recording(device: Device) -> bool:
    """A thread records while another allocates and copies, as contexts of one `Session` do."""
    stream, good = device.stream(), [False]
    done = threading.Event()

    def disturb() -> None:
        device.enter()
        good[0] = all(_comes_back(device, 1 << 16, i) for i in range(ROUNDS))
        done.set()

    graph = device.capture_graph(stream, lambda: _run_threads([disturb]) and done.is_set())
    if graph is None:
        return False
    device.launch(graph, stream)
    device.synchronize(stream)
    device.free_graph(graph)
    device.free_stream(stream)
    return good[0]


def _run_threads(work: list[Callable[[], Any]]) -> bool:
    """Run all at once; whether none failed."""
    failed: list[BaseException] = []

    def run(one: Callable[[], Any]) -> None:
        try:
            one()
        except Exception as error:  # noqa: BLE001 - it is reported by the thread that waits
            failed.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return not failed
