"""This machine alone: what of apa-deploy works here, and what would have to be added."""

from __future__ import annotations

from ..require import PACKAGES
from . import components
from .facts import MachineFacts
from .finding import Finding, FindingState


def machine_findings(facts: MachineFacts) -> list[Finding]:
    """Everything that any artifact could need. What is missing here is wanted by some of them only."""
    return [
        *components.onnxruntime(facts),
        components.check_fused_operators(facts),
        *components.operators_on_cuda(facts),
        components.gpu(facts),
        *_driver(facts),
        components.tensorrt(facts),
        *components.plugin(facts),
        _rtx(facts),
        *(_program(facts, name, what, do) for name, what, do in _PROGRAMS),
    ]


def _driver(facts: MachineFacts) -> list[Finding]:
    major = components.cuda_major_of_tensorrt(facts)
    return [components.driver(facts, major, "TensorRT")] if major else []


def _rtx(facts: MachineFacts) -> Finding:
    version = components.rtx_version(facts)
    topic, wanted = "TensorRT for RTX", "1.4 or later, for --format trt-rtx"
    if version:
        return Finding(topic, wanted, version)
    return Finding(topic, wanted, "not installed", FindingState.NOTE, f"Run: {PACKAGES['tensorrt_rtx'].add}")


_PROGRAMS = (
    ("c++", "a C++17 compiler, which builds the libraries", "Debian: apt install g++"),
    ("nvcc", "CUDA's compiler, which builds the plugin", "Nothing to do: the build fetches NVIDIA's wheels."),
    ("trtexec", "NVIDIA's own tool", "It comes with the TensorRT release, not with its Python package."),
)


def _program(facts: MachineFacts, name: str, what: str, do: str) -> Finding:
    found = facts.programs.get(name)
    return Finding(name, what, found) if found else Finding(name, what, "not in PATH", FindingState.NOTE, do)
