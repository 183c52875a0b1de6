"""`--shadow`: sampled requests are answered again by the reference, and what was served is held against that.

The sample is handed to a bounded queue and the request goes on; a thread passes it to a process of low priority,
which runs the reference and compares. Where that is too slow, samples are dropped and counted; no answer waits.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ApaError, InputError
from .child import Child, ChildError
from .model import Model
from .reference import ShadowVerdict
from .tensors import count_bytes

OUTCOMES = ("compared", "unjudged", "dropped", "failed")
QUANTILES = (0.5, 0.9, 0.99, 1.0)

_WAITING, _WAITING_BYTES = 32, 64 << 20  # samples, and their inputs and outputs, that wait for the reference
_WINDOW = 500  # samples that the quantiles and the agreement are of
_LOWEST = 19  # niceness
_AGAIN = 5.0  # seconds after which a reference whose process ended is started again

# Relative to the largest value of an output, where the passport says nothing: 2048 roundings of half a unit in the
# last place, one way, in float32 (2^-24); 32 in float16 (2^-11), whose networks compute in float32 in between.
_LIMITS = {4: 2048 * 2.0**-24, 8: 2048 * 2.0**-24, 2: 32 * 2.0**-11}


@dataclass
class Findings:
    """What is known of one version: of all its samples, and of the last ones by output."""

    artifact: Any = None
    outcomes: Counter[str] = field(default_factory=Counter)
    reason: str = ""
    errors: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=_WINDOW)))
    agreement: dict[str, deque[bool]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=_WINDOW)))
    limits: dict[str, float] = field(default_factory=dict)

    def add(self, model: Model, verdict: ShadowVerdict) -> None:
        """Take in what a comparison found; a replaced file starts from nothing."""
        if self.artifact is not model.artifact:
            self.artifact, self.reason = model.artifact, ""
            self.errors.clear()
            self.agreement.clear()
        self.outcomes["unjudged" if verdict.reason else "compared"] += 1
        self.reason = verdict.reason or self.reason
        for name, error in verdict.errors.items():
            self.errors[name].append(error)
        for name, same in verdict.agreement.items():
            self.agreement[name].extend(same)


class Shadow:
    """The samples of every model that has a reference.

    Args:
        rate: of the requests, above 0 and at most 1.
        references: by model.
        limit: of the relative error; None: the passport's, or what the outputs' precision makes likely.
    """

    def __init__(self, rate: float, references: Mapping[str, Path], limit: float | None) -> None:
        self.rate, self._references, self._limit = rate, references, limit
        self.findings: dict[tuple[str, int], Findings] = defaultdict(Findings)
        self._children: dict[str, Child] = {}
        self._queue: deque[tuple[Model, dict[str, np.ndarray], dict[str, np.ndarray], int]] = deque()
        self._bytes, self._some, self._random = 0, threading.Event(), random.Random()
        self._closed = False

    def start(self, names: Sequence[str]) -> None:
        """Load the references. Blocks.

        Raises:
            InputError: one is for no model in `names`, or does not load.
        """
        for name, path in self._references.items():
            if name not in names:
                wanted = ", ".join(names)
                raise InputError(f"--shadow-reference for the model {name!r}", wanted, "Write NAME=REFERENCE.")
            try:
                self._children[name] = _start(path)
            except ChildError as error:
                raise InputError(
                    f"{path}: {error.reason}", "a reference that loads", "Try: apa-inspect."
                ) from error
        threading.Thread(target=self._work, name="apa-shadow", daemon=True).start()

    def offer(self, model: Model, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
        """Maybe sample an answer. Takes no time to speak of, and waits for nothing."""
        if model.name not in self._references or self._random.random() >= self.rate:
            return
        findings = self.findings[model.name, model.version]
        if not findings.limits:
            findings.limits = {spec.name: self._limit_of(model, spec) for spec in model.signature.outputs}
        size = sum(map(count_bytes, (*inputs.values(), *outputs.values())))
        if len(self._queue) >= _WAITING or self._bytes + size > _WAITING_BYTES:
            findings.outcomes["dropped"] += 1
            return
        self._bytes += size
        self._queue.append((model, dict(inputs), dict(outputs), size))
        self._some.set()

    def close(self) -> None:
        """End the references' processes."""
        self._closed = True
        self._some.set()
        for child in self._children.values():
            child.kill()

    def _limit_of(self, model: Model, spec: Any) -> float:
        if self._limit is not None:
            return self._limit
        usual = _LIMITS.get(spec.datatype.dtype.itemsize, 0.0) if spec.datatype.dtype.kind == "f" else 0.0
        return model.limits.get(spec.name, usual)

    def _work(self) -> None:
        while not self._closed:
            self._some.wait()
            self._some.clear()
            while self._queue and not self._closed:
                model, inputs, outputs, size = self._queue.popleft()
                findings = self.findings[model.name, model.version]
                try:
                    findings.add(model, self._child(model.name).call(inputs, outputs, findings.limits))
                except ApaError as error:
                    findings.outcomes["failed"] += 1
                    findings.reason = getattr(error, "reason", str(error))
                self._bytes -= size

    def _child(self, name: str) -> Child:
        if not self._children[name].is_running:
            time.sleep(_AGAIN)
            self._children[name] = _start(self._references[name])
        return self._children[name]


def references_by_model(given: Sequence[str], names: Sequence[str]) -> dict[str, Path]:
    """The references of `--shadow-reference`: NAME=REFERENCE, or the reference alone where one model is served.

    Raises:
        InputError: one stands alone beside several models.
    """
    references = {}
    for text in given:
        name, separator, path = text.partition("=")
        if separator and not Path(text).exists():
            references[name] = Path(path)
        elif len(names) == 1:
            references[names[0]] = Path(text)
        else:
            saw = f"--shadow-reference {text} for {len(names)} models"
            raise InputError(saw, f"NAME=REFERENCE, of {', '.join(names)}", "Say which model it is of.")
    return references


def _start(path: Path) -> Child:
    return Child("apa_deploy.serving.reference:open_reference", str(path), nice=_LOWEST)
