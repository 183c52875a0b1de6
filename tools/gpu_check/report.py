"""The report under way: one JSON, one page and one log, written anew after each part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from apa_deploy import __version__
from apa_deploy.files import stage_files
from apa_deploy.records.passport import now, versions
from apa_deploy.runtimes.cuda_driver import cuda_version, gpus

from .outcome import Outcome, exit_code
from .page import page

_VERDICTS = {0: "passed", 1: "failed", 3: "incomplete"}
_PACKAGES = ("torch", "onnxruntime-gpu", "tensorrt", "cuda-bindings", "polygraphy", "onnx", "numpy")


class Report:
    """`outcomes`: of the parts that ran; `log`: what they printed.

    Args:
        name: of the files, without a suffix.
        model: the user's, or None.
    """

    def __init__(self, name: Path, precision: str, model: Path | None) -> None:
        self.files = [name.with_name(name.name + suffix) for suffix in (".json", ".html", ".log")]
        self.outcomes: list[Outcome] = []
        self.log = ""
        driver = cuda_version()
        self._head: dict[str, Any] = {
            "schema_version": 2,
            "tool": f"apa-deploy {__version__}",
            "created": now(),
            "precision": precision,
            "model": model.name if model else "se_resnet50, random weights",
            "machine": {
                "GPUs": [asdict(gpu) for gpu in gpus()],
                "driver serves CUDA": ".".join(map(str, driver)) if driver else None,
                **versions(_PACKAGES),
            },
        }

    def document(self, left: Sequence[str] = ()) -> dict[str, Any]:
        """As it is written. `left`: parts that have not ended; where the whole is cut off, they stay in it."""
        verdict = f"cut off in {left[0]}" if left else _VERDICTS[exit_code(self.outcomes)]
        parts = [outcome.as_json() for outcome in self.outcomes]
        return {**self._head, "verdict": verdict, "not ended": list(left), "parts": parts}

    def write(self, folder: Path, left: Sequence[str]) -> None:
        """All three files, each whole."""
        document = self.document(left)
        texts = (json.dumps(document, indent=1) + "\n", page(document), self.log.replace(str(folder), "FOLDER"))
        with stage_files(self.files, force=True) as stage:
            for path, text in zip(self.files, texts, strict=True):
                (stage / path.name).write_text(text, encoding="utf-8")

    def show(self, as_json: bool) -> None:
        """For the terminal."""
        document = self.document()
        if as_json:
            print(json.dumps(document, indent=2))
            return
        for part in document["parts"]:
            print(f"{part['state']:8} {part['part']}" + (f": {part['reason']}" if part["reason"] else ""))
            if part["do"]:
                print(f"         {part['do']}")
        print(f"{document['verdict']}; see {' and '.join(map(str, self.files[:2]))}")
