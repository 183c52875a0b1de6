"""The machine that measured, and how busy it was."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from ..progress import notice
from ..records.benchmark import Environment
from ..records.passport import versions
from ..runtimes.cuda_driver import device_count

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_PROC_BIND", "KMP_AFFINITY", "CUDA_VISIBLE_DEVICES")
_PACKAGES = (
    "torch",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt_rtx_cu13",
)
_BUSY = 0.5  # of the cores taken by others before a measurement begins


def environment(load_before: float) -> Environment:
    """What shapes a measurement here. `load_before`: the load average when it began."""
    known = versions(_PACKAGES)
    return Environment(
        cpu=processor(),
        cores=usable_cores(),
        governor=_governor(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpu=f"{count} NVIDIA" if (count := device_count()) else "none",
        load=(load_before, read_load_average()),
        versions={name: version for name, version in known.items() if version != "absent"},
        variables={name: os.environ[name] for name in _VARIABLES if name in os.environ},
    )


def read_load_average() -> float:
    """How many processes wanted to run, averaged over the last minute."""
    return os.getloadavg()[0]


def warn_if_busy(average: float) -> None:
    """Say that others use the machine: intervals will be wide, and small differences stay unseen."""
    if note := busy_note(average, usable_cores()):
        notice(note)


def busy_note(average: float, cores: int) -> str:
    """What to think of figures that were measured at this load average, or "" where nothing else ran."""
    if average <= _BUSY * cores:
        return ""
    return f"the machine was busy (load {average:.1f} on {cores} cores as it began): intervals are wide"


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The model of the processor, as it names itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _governor() -> str:
    try:
        return _GOVERNOR.read_text(encoding="utf-8").strip()
    except OSError:
        return "this machine does not report it"
