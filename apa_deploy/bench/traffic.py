"""Each activation alone, on the shapes it has in the network: bytes it moves, and its time beside a plain copy's.

An activation can do no better than read its input once and write its output once. Its share of copy speed is the
time of a copy of as many bytes over its own time, one thread each, taking turns, in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from ..measure.subject import Subject, batch_shape
from ..progress import notice, step
from ..records.benchmark import Traffic

_LIMIT_S = 600


def measure_traffic(subjects: Sequence[Subject], batch: int) -> tuple[list[Traffic], float | None]:
    """Of every ONNX file that tells where its activations are; and the speed of the copies, in bytes a second."""
    found: list[Traffic] = []
    speeds: list[float] = []
    for subject in subjects:
        if subject.runtime != "onnxruntime":
            continue
        with step(f"Measuring the activations of {subject.name} alone"):
            rows, speed = _in_child(subject, batch)
        found += [Traffic(artifact=subject.name, **row) for row in rows]
        speeds += [speed] if speed else []
    return found, max(speeds, default=None)


def _in_child(subject: Subject, batch: int) -> tuple[list[dict], float | None]:
    feeds = {feed.name: [batch_shape(feed, batch), feed.dtype] for feed in subject.feeds}
    command = [sys.executable, "-P", "-m", "apa_deploy.bench.traffic_worker", subject.path, json.dumps(feeds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=True)
        answer = json.loads(done.stdout.splitlines()[-1])
        return answer["rows"], answer["copy_bytes_per_s"]
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        said = getattr(error, "stderr", "") or str(error)
        notice(f"the activations of {subject.name} were not measured alone: {said.strip().splitlines()[-1]}")
        return [], None
