"""Golden fixtures: a committed set, and the whole set where it lies beside the repository."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# pytest's import of readline sets 80 for its children, behind Python's back: piped text is as wide as it needs.
os.environ.pop("COLUMNS", None)
os.unsetenv("COLUMNS")

COMMITTED = Path(__file__).parent / "golden"
BESIDE = Path(__file__).parents[2] / "shared" / "golden"

_spec = importlib.util.spec_from_file_location("make_checkpoint", COMMITTED / "make_checkpoint.py")
make_checkpoint = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_checkpoint)


def _golden_files() -> dict[str, Path]:
    files = {path.stem: path for path in sorted(BESIDE.glob("*.json"))} if BESIDE.is_dir() else {}
    return files | {path.stem: path for path in sorted(COMMITTED.glob("*.json"))}


GOLDEN = _golden_files()
# The committed set has one network of each head, source and gate but this; the others differ in size.
EVERY_TIME = {*(path.stem for path in COMMITTED.glob("*.json")), "sp_resnet50_gumbel"}


class Golden:
    """One fixture of upstream's code: its checkpoint in any layout, its input, its float64 outputs."""

    def __init__(self, path: Path) -> None:
        self.spec = json.loads(path.read_text())
        self.name = self.spec["id"]
        self.arrays = np.load(path.with_suffix(".npz"))
        self.stages_only = "outputs_note" in self.spec

    def save(self, path: Path, layout: str = "upstream") -> Path:
        torch.save(make_checkpoint.checkpoint(self.spec, layout), path)
        return path

    def input(self) -> torch.Tensor:
        return torch.from_numpy(make_checkpoint.input_array(self.spec))

    def worst_relative_error(self, outputs) -> float:
        """Largest max|a-b| / max|b| over the outputs (of a backbone: over the stored statistics)."""
        outputs = [np.asarray(o) for o in (outputs if isinstance(outputs, list | tuple) else [outputs])]
        pairs = []
        for i, y in enumerate(outputs):
            if self.stages_only:
                pairs += [(y.mean((2, 3)), f"out{i}_mean_f64"), (y[:, :8, :4, :4], f"out{i}_corner_f64")]
            else:
                pairs.append((y, f"out{i}_f64"))
        return max(np.abs(y - self.arrays[k]).max() / np.abs(self.arrays[k]).max() for y, k in pairs)


@pytest.fixture(params=[pytest.param(n, marks=() if n in EVERY_TIME else pytest.mark.long) for n in GOLDEN])
def golden(request) -> Golden:
    return Golden(GOLDEN[request.param])


@pytest.fixture(scope="session", autouse=True)
def trace_once():
    from tests.traces import TorchNetwork, remember_traces

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchNetwork, "trace", remember_traces(TorchNetwork.trace))
        yield


@pytest.fixture(autouse=True)
def forget_modules_of_temporary_folders(tmp_path_factory):
    """Two tests may each write an own.py; Python would hand the first one's to the second."""
    yield
    folder = f"{tmp_path_factory.getbasetemp()}{os.sep}"
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__dict__", {}).get("__file__") or "").startswith(folder):
            del sys.modules[name]


def use_this_process(patch):
    """apa-verify without a process for each candidate, which tests/verification/test_isolation.py is about."""
    from apa_deploy.errors import ApaError
    from apa_deploy.verification import run
    from apa_deploy.verification.record import FailureRecord
    from apa_deploy.verification.work import Answer, do_work

    def do_here(work, name, timeout):
        try:
            return do_work(work)
        except ApaError as error:
            return Answer(failure=FailureRecord.of(error)), {}

    patch.setattr(run, "run_isolated", do_here)


@pytest.fixture
def verify_here(monkeypatch):
    use_this_process(monkeypatch)


@pytest.fixture(scope="session")
def golden_arrays():
    return {path.stem: np.load(path) for path in COMMITTED.glob("*.npz")}


@pytest.fixture
def cifar_checkpoint(tmp_path) -> Path:
    """A small checkpoint of upstream's: se_resnet32 with AGLU, APA and a cosine head."""
    return Golden(GOLDEN["cifar_se_resnet32_gumbel_cosine"]).save(tmp_path / "model.pth")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from tests.scheduling import ByFiles

    return ByFiles(config, log)


def pytest_collection_modifyitems(items):
    from tests.scheduling import sort_items

    sort_items(items)
