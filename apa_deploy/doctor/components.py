"""Facts -> one finding a component: the GPU, its driver, TensorRT, the plugin, ONNX Runtime. Pure functions."""

from __future__ import annotations

from dataclasses import replace

from ..require import PACKAGES
from ..runtimes.cuda_driver import OLDEST_DRIVER
from ..runtimes.packages import conflict
from .facts import MachineFacts
from .fat_binary import GpuCode
from .finding import Finding, FindingState, check_need

BUILD = "in a checkout of apa-deploy, run: pip install --no-deps ."
BUILD_ORT = f"Install a C++17 compiler and, {BUILD}"
_TENSORRT = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
_RTX = ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12")
_OLDEST_TENSORRT = (10, 7)


def gpu(facts: MachineFacts) -> Finding:
    """A GPU that the driver shows."""
    here = ", ".join(f"{g.name} (compute capability {g.capability})" for g in facts.gpus) or "none"
    if not facts.gpus and facts.driver is None:
        here = "none: no NVIDIA driver (libcuda.so.1) is here"
    do = "Run it on a machine with a GPU; in a container, start that with --gpus all."
    return check_need("GPU", "an NVIDIA GPU", here, bool(facts.gpus), do)


def driver(facts: MachineFacts, cuda_major: int, because: str) -> Finding:
    """A driver that serves CUDA `cuda_major`; `because` says what wants it."""
    oldest = OLDEST_DRIVER.get(cuda_major, "a newer one")
    wanted = f"{oldest} or later, for CUDA {cuda_major} ({because})"
    here = f"serves CUDA {facts.driver[0]}.{facts.driver[1]} and older" if facts.driver else "no driver"
    good = facts.driver is not None and facts.driver[0] >= cuda_major
    do = f"Install the NVIDIA driver {oldest} or later, or what is built for the CUDA that the driver serves."
    return check_need("driver", wanted, here, good, do)


def tensorrt_version(facts: MachineFacts) -> str | None:
    """Of the installed TensorRT, e.g. "10.14.1.48"."""
    return facts.version_of(*_TENSORRT)


def rtx_version(facts: MachineFacts) -> str | None:
    """Of the installed TensorRT for RTX."""
    return facts.version_of(*_RTX)


def cuda_major_of_tensorrt(facts: MachineFacts) -> int | None:
    """The CUDA that the installed TensorRT was built with, where its package names it."""
    return next((int(name[-2:]) for name in ("tensorrt-cu13", "tensorrt-cu12") if name in facts.packages), None)


def tensorrt(facts: MachineFacts) -> Finding:
    """A TensorRT that runs the plugin."""
    version = tensorrt_version(facts)
    good = version is not None and numbers(version) >= _OLDEST_TENSORRT
    here = version or "not installed"
    return check_need("TensorRT", "10.7 or later", here, good, f"Run: {PACKAGES['tensorrt'].add}")


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "10.14.1.post1" is (10, 14, 1)."""
    found: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)


def plugin(facts: MachineFacts) -> list[Finding]:
    """The TensorRT plugin: built, with code for every GPU here, and a driver for its CUDA."""
    wanted = "libapa_trt.so"
    if facts.trt_plugin is None:
        do = f"Install a C++17 compiler and nvcc and, {BUILD}"
        return [Finding("plugin", wanted, "not built", FindingState.MISSING, do)]
    found = [Finding("plugin", wanted, str(facts.trt_plugin)), *_code_for_gpus(facts, facts.plugin_code, "plugin")]
    if facts.gpus and facts.plugin_code and facts.plugin_code.cuda:
        found.append(driver(facts, facts.plugin_code.cuda[0], "the plugin"))
    return found


def _code_for_gpus(facts: MachineFacts, code: GpuCode | None, whose: str) -> list[Finding]:
    if code is None:
        return []
    return [
        check_need(
            f"{whose}'s machine code",
            f"for compute capability {gpu.capability} ({gpu.name})",
            f"for {', '.join(map(str, sorted(code.machine))) or 'none'}",
            code.runs_on(gpu.capability),
            f"With -C cmake.define.APA_CUDA_ARCHITECTURES={gpu.capability.replace('.', '')} {BUILD}",
        )
        for gpu in facts.gpus
    ]


def onnxruntime(facts: MachineFacts) -> list[Finding]:
    """ONNX Runtime: one of the two packages, not both; the one for GPUs where a GPU is."""
    names = [name for name in ("onnxruntime", "onnxruntime-gpu") if name in facts.packages]
    here = ", ".join(f"{name} {facts.packages[name]}" for name in names) or "not installed"
    found = [check_need("ONNX Runtime", "1.17 or later", here, bool(names), "Run: pip install 'onnxruntime>=1.17'")]
    clash = conflict(names)
    if clash:
        found.append(Finding("ONNX Runtime", "one package", "two", FindingState.NOTE, clash))
    elif facts.gpus and names == ["onnxruntime"]:
        do = "Run: pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
        found.append(Finding("ONNX Runtime", "onnxruntime-gpu, to use the GPU", "the CPU's", FindingState.NOTE, do))
    if facts.gpus and facts.onnxruntime_cuda:
        found.append(driver(facts, facts.onnxruntime_cuda[0], "onnxruntime-gpu"))
    return found


def operators_on_cuda(facts: MachineFacts) -> list[Finding]:
    """Our library for ONNX Runtime's CUDA provider, where there is one: speed, as on the CPU."""
    if not facts.gpus or not facts.version_of("onnxruntime-gpu"):
        return []
    topic, wanted, library = (
        "fused operators on CUDA",
        "libapa_ort_cuda.so, for speed on a GPU",
        facts.ort_cuda_library,
    )
    if library is None:
        do = f"Functions run instead. Install a C++17 compiler and nvcc and, {BUILD}"
        return [Finding(topic, wanted, "not built", FindingState.NOTE, do)]
    found = [Finding(topic, wanted, str(library)), *_code_for_gpus(facts, facts.ort_cuda_code, topic)]
    if facts.ort_cuda_code and facts.ort_cuda_code.cuda:
        found.append(driver(facts, facts.ort_cuda_code.cuda[0], topic))
    missing, note = FindingState.MISSING, FindingState.NOTE
    return [replace(one, state=note) if one.state is missing else one for one in found]


def check_fused_operators(facts: MachineFacts) -> Finding:
    """Our ONNX Runtime library: speed, not correctness."""
    wanted = "libapa_ort.so, for speed on a CPU"
    if facts.ort_library:
        return Finding("fused operators", wanted, str(facts.ort_library))
    return Finding("fused operators", wanted, "not built", FindingState.NOTE, f"Functions run instead. {BUILD_ORT}")
