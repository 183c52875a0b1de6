"""Parts that need no TensorRT: the plugin built for the device, its kernels' tests there, and their bandwidth."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from apa_deploy.doctor.fat_binary import gpu_code
from apa_deploy.errors import GateError, MissingError

from . import building
from .analysis import bandwidth_row
from .clocks import Watch
from .outcome import Outcome, State

NO_DEVICE = 3
SAMPLES, SIZES_MIB = 40, (8, 64, 256)
_SECONDS = 600


def build_plugin(folder: Path, architecture: int) -> Outcome:
    """The plugin for this device, and whether it holds code for it."""
    library = building.plugin(folder, architecture)
    code = gpu_code(library)
    row = {
        "library": library.name,
        "machine code": sorted(code.machine),
        "PTX": sorted(code.ptx),
        "CUDA": code.cuda,
    }
    good = architecture in code.machine
    reason = "" if good else f"no machine code for sm_{architecture}"
    return Outcome("plugin", State.PASSED if good else State.FAILED, reason, rows=[row])


def run_kernel_suites(programs: dict[str, Path]) -> Outcome:
    """Every suite of the plugin's kernel tests, on the device: all float16 and bfloat16 values, all layouts."""
    rows = [_suite(programs[source], suite) for source, suites in building.SUITES.items() for suite in suites]
    failed = [row["suite"] for row in rows if not row["passed"]]
    reason = f"failed: {', '.join(failed)}" if failed else ""
    return Outcome("kernels", State.FAILED if failed else State.PASSED, reason, rows=rows)


def _suite(program: Path, suite: str) -> dict[str, Any]:
    done = _ran([str(program), suite])
    return {
        "suite": f"{program.name} {suite}",
        "passed": done.returncode == 0,
        "said": done.stdout.strip().splitlines()[-3:],
    }


def bandwidth(program: Path) -> Outcome:
    """Each kernel beside a copy on the device."""
    sizes = [str(mib << 20) for mib in SIZES_MIB]
    with Watch() as watch:
        done = _ran([str(program), str(SAMPLES), *sizes])
    if done.returncode:
        raise GateError(done.stderr.strip(), "the bandwidth program to run", "See nvidia-smi and dmesg.")
    return judge_bandwidth(json.loads(done.stdout), watch.facts())


def judge_bandwidth(document: dict[str, Any], clocks: dict[str, object]) -> Outcome:
    """What the device program printed, judged; its raw samples are kept."""
    device = document["device"]
    rows = [bandwidth_row(row, device["l2_bytes"], device["name"]) for row in document["rows"]]
    slow = [f"{row['kernel']} {row['element']} {row['MiB']} MiB" for row in rows if row["good"] is False]
    reason = f"below what the roofline allows: {'; '.join(slow)}" if slow else ""
    facts = {"device": device, "clocks": clocks, "samples": document["rows"]}
    return Outcome("bandwidth", State.FAILED if slow else State.PASSED, reason, rows=rows, facts=facts)


def _ran(command: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    if done.returncode == NO_DEVICE:
        raise MissingError(done.stderr.strip(), "a GPU and its driver", "Run this on a machine with an NVIDIA GPU.")
    return done
