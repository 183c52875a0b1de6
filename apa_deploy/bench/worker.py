"""A process that holds one artifact and measures when it is told to; started by `process.Worker`.

One JSON document a line on standard input, one answer each on what was standard output:

{"subject": {...}, "batch": 1, "threads": 2, "warmup": 10}    {"load_s": 0.3, "runtime": "onnxruntime 1.32.0"}
{"turn": 0.2, "least": 3}                                     {"ms": [...], "peak_memory_bytes": 123}
{"placement": true}                                           {"placement": {...}}, null where nothing says it
{}                                                            the end

An error is {"error": "..."}; of a component that is not here "missing" has its three parts.
Whatever a runtime prints goes to standard error.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from ..errors import MissingError
from ..measure.subject import Subject
from ..tensors.signature import TensorSpec
from .opened import Infer, Opened, open_subject

_LONGEST = 300  # characters of an error: one line


def main() -> None:
    """Answer until told to end; a closed pipe ends it as well."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    opened: Opened | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        if not asked:
            return
        try:
            if opened is None:
                opened, answer = _load(asked)
            elif "placement" in asked:
                placement = opened.find_placement()
                answer = {"placement": placement.model_dump() if placement else None}
            else:
                answer = {
                    "ms": turn(opened.infer, asked["turn"], asked["least"]),
                    "peak_memory_bytes": peak_memory(),
                }
        except Exception as error:  # noqa: BLE001 - a runtime may raise anything; the parent reports it
            answer = {"error": " ".join(str(error).split())[:_LONGEST] or type(error).__name__}
            if isinstance(error, MissingError):
                answer["missing"] = (error.saw, error.wanted, error.do)
        print(json.dumps(answer), file=answers, flush=True)


def _load(asked: dict[str, Any]) -> tuple[Opened, dict[str, Any]]:
    given = asked["subject"]
    feeds = tuple(TensorSpec(f["name"], f["dtype"], tuple(f["dims"])) for f in given.pop("feeds"))
    start = time.perf_counter()
    opened = open_subject(Subject(**given, feeds=feeds), asked["batch"], asked["threads"])
    opened.infer()
    seconds = time.perf_counter() - start
    for _ in range(asked["warmup"]):
        opened.infer()
    return opened, {"load_s": seconds, "runtime": opened.runtime}


def turn(infer: Infer, seconds: float, least: int) -> list[float]:
    """Milliseconds of each inference for `seconds`, at least `least` of them.

    The first is not kept: another process has had the caches since the last turn.
    """
    infer()
    samples: list[float] = []
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        while len(samples) < least or time.perf_counter() < end:
            start = time.perf_counter_ns()
            infer()
            samples.append((time.perf_counter_ns() - start) / 1e6)
    finally:
        gc.enable()
    return samples


def peak_memory() -> int:
    """Bytes. Linux keeps it for this program alone; elsewhere a parent's may be counted in."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
