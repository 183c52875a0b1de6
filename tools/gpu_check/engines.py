"""Four engines through `--format trt`: plugin, kernels in the plan, decomposed, and the SiLU twin; parity of each.

The twin is the same network with x*sigmoid(x) for each unit and sigmoid for each gate: what the network would
cost without learned activations.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apa_exporters.tensorrt.bundle import SCRIPT
from apa_exporters.tensorrt.export import export_bundle
from apa_exporters.tensorrt.on_target import machine
from apa_exporters.tensorrt.options import TrtGraphOptions, TrtOptions

from apa_deploy.child_process import last_line
from apa_deploy.errors import MissingError
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.measure.twins import with_plain
from apa_deploy.network import Metadata, Network
from apa_deploy.records.passport import passport_path
from apa_deploy.require import PACKAGES
from apa_deploy.tensors.signature import image_signature

from .outcome import Outcome, State

PLUGIN, AOT, DECOMPOSED, TWIN = "plugin", "aot", "decomposed", "silu twin"
NAMES = (PLUGIN, AOT, DECOMPOSED, TWIN)
_MISSING = 3


@dataclass(frozen=True)
class Wanted:
    """`plugin`: the library to build with, None for the installed one; `batches`: least, usual, largest."""

    precision: str = "fp16"
    batches: tuple[int, int, int] = (1, 8, 32)
    verify: bool = True
    plugin: Path | None = None


def default_model() -> Network:
    """SE-ResNet50 with 65 learned activations and random weights, 224x224."""
    from benchmarks.upstream_form import se_resnet50

    return TorchNetwork(se_resnet50(), image_signature((3, 224, 224)), Metadata("se_resnet50, random weights"))


def twin(model: Network) -> Network:
    """The model with SiLU for each unit and a sigmoid for each gate."""
    module = with_plain(copy.deepcopy(model.module), "silu")
    return TorchNetwork(module, model.signature, model.metadata)


def check_machine() -> None:
    """Raise a `MissingError` that names all that is missing, before the models are exported."""
    if lacks := machine.missing(add=PACKAGES["tensorrt"].add):
        saw = f"this machine lacks {', '.join(what for what, _ in lacks)}"
        raise MissingError(
            saw, "TensorRT and a GPU", f"To add: {'; '.join(dict.fromkeys(how for _, how in lacks))}."
        )


def build_engines(
    folder: Path,
    model: Network,
    wanted: Wanted,
    say: Callable[[str], None],
    keep: Callable[[Outcome, dict[str, Path]], None] = lambda *_: None,
) -> tuple[Outcome, dict[str, Path]]:
    """Every engine, and its parity; engines by name. One that cannot be built fails, the others go on.

    `keep`: takes what is known after each.
    """
    rows: list[dict[str, Any]] = []
    engines: dict[str, Path] = {}
    for name in NAMES:
        say(f"engine: {name}")
        engine, row = _build_engine(folder, name, twin(model) if name == TWIN else model, wanted)
        rows.append(row)
        if engine:
            engines[name] = engine
        keep(judge_engines(rows), engines)
    return judge_engines(rows), engines


def judge_engines(rows: list[dict[str, Any]]) -> Outcome:
    """What became of the engines: skipped where all that were not built lacked something, else failed."""
    lost = [row for row in rows if not row["built"]]
    if not lost:
        return Outcome("engines", State.PASSED, rows=rows)
    wrong = [row for row in lost if row["code"] != _MISSING]
    reason = "; ".join(f"{row['engine']}: {row['said']}" for row in wrong or lost)
    return Outcome("engines", State.FAILED if wrong else State.SKIPPED, reason, rows=rows)


def _build_engine(folder: Path, name: str, model: Network, wanted: Wanted) -> tuple[Path | None, dict[str, Any]]:
    bundle = folder / name.replace(" ", "-")
    engine = f"{bundle.name}.engine"
    graph = TrtGraphOptions(precision=wanted.precision, verify=wanted.verify)
    activation = DECOMPOSED if name == TWIN else name
    export_bundle(model, bundle, engine, TrtOptions(graph, activation=activation, batches=wanted.batches))
    command = [sys.executable, str(bundle / SCRIPT), "-o", str(folder)]
    if wanted.plugin and name == PLUGIN:
        command += ["--plugin", str(wanted.plugin)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = last_line(done.stderr)
        return None, {"engine": name, "built": False, "code": done.returncode, "said": said}
    passport = json.loads(passport_path(folder / engine).read_text(encoding="utf-8"))
    return folder / engine, engine_row(name, passport)


def engine_row(name: str, passport: dict[str, Any]) -> dict[str, Any]:
    """What an engine's passport tells of it. `max error` and `limit`: relative, of the output nearest its limit."""
    build = passport["build"]
    checks = [c for c in (passport["parity"] or {"outputs": []})["outputs"] if c["runner"].startswith("TensorRT")]
    worst = max(checks, key=lambda c: c["max_rel"] / c["limit"], default=None)
    return {
        "engine": name,
        "built": True,
        "code": 0,
        "said": build["note"],
        "kernels": sum(build["launches"].values()),
        "types": build["types"],
        "MB": round(passport["outputs"][0]["bytes"] / 1e6, 1),
        "seconds": round(build["seconds"], 1),
        "max error": worst["max_rel"] if worst else None,
        "limit": worst["limit"] if worst else None,
    }
