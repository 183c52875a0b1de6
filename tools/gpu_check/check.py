"""One check under way: what was asked for, and what its parts leave to each other, as files of one folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from apa_deploy.errors import MissingError
from apa_deploy.runtimes.cuda_driver import gpus, missing_gpu

from . import building
from .outcome import Outcome, State
from .prepared import Prepared
from .time_limits import NEVER, Deadline

_OPTIONS = "check.json"


@dataclass(frozen=True)
class Check:
    """`folder`: scratch. `sm`: compile for this, not for the GPU here. `prepared`: a folder made before
    (prepared.py), whose programs are run as they are. `deadline`: of the part that runs."""

    folder: Path
    sm: int | None = None
    model: Path | None = None
    precision: str = "fp16"
    prepared: Path | None = None
    deadline: Deadline = field(default=NEVER, compare=False)

    def save(self) -> None:
        """For the processes of the parts."""
        known = {name: value for name, value in asdict(self).items() if name != "deadline"}
        document = {name: str(value) if isinstance(value, Path) else value for name, value in known.items()}
        (self.folder / _OPTIONS).write_text(json.dumps(document), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `save` wrote."""
        document: dict[str, Any] = json.loads((folder / _OPTIONS).read_text(encoding="utf-8"))
        paths = {name: Path(document[name]) for name in ("folder", "model", "prepared") if document[name]}
        return cls(**document | paths)

    def keep(self, outcome: Outcome) -> None:
        """What a part knows so far: this is its outcome where it is cut off."""
        path = self.outcome_file(outcome.part)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(outcome.as_json()), encoding="utf-8")
        part.replace(path)

    def kept(self, part: str) -> Outcome | None:
        """What it kept, if anything."""
        path = self.outcome_file(part)
        return Outcome.of_json(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def outcome_file(self, part: str) -> Path:
        """Where a part keeps its outcome."""
        return self.folder / f"{part}.json"

    def architecture(self) -> int:
        """Such as 89.

        Raises:
            MissingError: there is no GPU to ask, and --sm was not given.
        """
        if self.sm:
            return self.sm
        if lacks := missing_gpu():
            raise MissingError(f"this machine lacks {lacks[0]}", "a GPU to compile for", f"To add it, {lacks[1]}.")
        return int(gpus()[0].capability.replace(".", ""))

    def programs(self) -> dict[str, Path]:
        """The programs to run on the device: prepared, or compiled for it once.

        Raises:
            MissingError: what compiles them cannot be had.
            GateError: they do not compile.
        """
        if self.prepared:
            return Prepared(self.prepared).programs()
        folder, done = self.folder / "programs", self.folder / "programs.done"
        if done.is_file():
            return {name: folder / name for name in json.loads(done.read_text(encoding="utf-8"))}
        folder.mkdir(exist_ok=True)
        found = building.programs(folder, [self.architecture()])
        done.write_text(json.dumps(list(found)), encoding="utf-8")
        return found

    def library(self, part: str) -> Path:
        """One of `building.LIBRARIES`: prepared, or built for the device once.

        Raises:
            MissingError: what compiles it cannot be had.
            GateError: it does not compile.
        """
        if self.prepared:
            return Prepared(self.prepared).library(part)
        folder = self.folder / "libraries"
        built = folder / building.library_path(part)
        if built.is_file():
            return built
        return building.library(part, folder, [self.architecture()], self.architecture())

    def plugin(self) -> Path:
        """The library for TensorRT."""
        return self.library("tensorrt")

    def operators(self) -> Path:
        """The library for ONNX Runtime's CUDA provider."""
        return self.library("onnxruntime_cuda")

    def failed(self, part: str, reason: str, do: str) -> Outcome:
        """What became of a part whose process did not end by itself: what it kept, and why it ended."""
        kept = self.kept(part) or Outcome(part, State.FAILED)
        kept.state, kept.do = State.FAILED, do
        kept.reason = "; ".join(filter(None, [reason, kept.reason]))
        return kept
