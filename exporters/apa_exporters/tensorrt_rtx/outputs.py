"""Run an engine on this machine's GPU in a child process, and judge what it says."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from apa_deploy.child_process import last_line
from apa_deploy.network import Network
from apa_deploy.parity.model_gate import check_recorded
from apa_deploy.progress import notice
from apa_deploy.records.parity import OutputCheck
from apa_deploy.records.passport import Passport
from apa_deploy.tensors.signature import Feed

from .execute import read_numbered

RUNNER = "TensorRT for RTX"
_SCRIPT = Path(__file__).with_name("execute.py")


def check_engine(
    engine: Path, network: Network, passport: Passport, feeds: Sequence[Feed], precision: str
) -> list[OutputCheck]:
    """Checks of every output on `feeds`; none, and a notice, where the engine does not run here."""
    given = feeds
    if passport.options.get("half_io") and precision == "fp16":
        given = [{name: _half(array) for name, array in feed.items()} for feed in feeds]
    recorded = _run_engine(engine, given)
    if recorded is None:
        return []
    return check_recorded(recorded, RUNNER, network, feeds, precision)


def _half(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float16) if array.dtype == np.float32 else array


def _run_engine(engine: Path, feeds: Sequence[Feed]) -> list[dict[str, np.ndarray]] | None:
    with tempfile.TemporaryDirectory(prefix="apa-") as folder:
        given, found = Path(folder) / "feeds.npz", Path(folder) / "outputs.npz"
        arrays = {f"{i}/{name}": array for i, feed in enumerate(feeds) for name, array in feed.items()}
        np.savez(given, **arrays)  # type: ignore[arg-type]
        command = [sys.executable, "-P", str(_SCRIPT), str(engine), str(given), str(found)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            notice(f"the engine does not run on this machine: {last_line(done.stderr)}")
            return None
        return read_numbered(str(found))
