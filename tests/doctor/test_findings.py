"""Recorded machines, judged: what the doctor says about GPUs, drivers and packages that are not here."""

from dataclasses import replace
from pathlib import Path

import pytest

from apa_deploy.doctor import components
from apa_deploy.doctor.engine_needs import fits, serves
from apa_deploy.doctor.facts import MachineFacts
from apa_deploy.doctor.fat_binary import GpuCode
from apa_deploy.doctor.finding import FindingState
from apa_deploy.doctor.machine_findings import machine_findings
from apa_deploy.runtimes.cuda_driver import Gpu

L4 = MachineFacts(
    python="3.12.1",
    system="Linux x86_64",
    packages={"onnxruntime-gpu": "1.22.0", "tensorrt": "10.14.1.48", "tensorrt-cu13": "10.14.1.48"},
    driver=(13, 0),
    gpus=(Gpu("NVIDIA L4", "8.9"),),
    ort_library=Path("libapa_ort.so"),
    trt_plugin=Path("libapa_trt.so"),
    plugin_code=GpuCode(frozenset({75, 89}), frozenset({90}), (13, 0)),
    ort_cuda_library=Path("libapa_ort_cuda.so"),
    ort_cuda_code=GpuCode(frozenset({75, 89}), frozenset({90}), (13, 0)),
    onnxruntime_cuda=(12, 8),
)
BARE = MachineFacts(python="3.12.1", system="Linux x86_64")


def _states(facts):
    worst = {}
    for finding in machine_findings(facts):
        worst[finding.topic] = max(
            worst.get(finding.topic, FindingState.OK), finding.state, key=list(FindingState).index
        )
    return worst


def test_a_complete_machine_lacks_nothing():
    assert FindingState.MISSING not in _states(L4).values()


# What is different from the complete machine, and what is found: topic, state, words of what to do.
CHANGES = [
    ({"driver": (12, 4)}, "driver", FindingState.MISSING, "r580"),
    ({"gpus": (), "driver": None}, "GPU", FindingState.MISSING, "--gpus all"),
    ({"gpus": (), "driver": None}, "driver", FindingState.MISSING, "r580"),
    ({"packages": {"onnxruntime": "1.22"}}, "TensorRT", FindingState.MISSING, "apa-deploy[gpu]"),
    ({"packages": {"tensorrt": "10.3.0"}}, "TensorRT", FindingState.MISSING, "apa-deploy[gpu]"),
    ({"packages": {"onnxruntime": "1.22"}}, "ONNX Runtime", FindingState.NOTE, "onnxruntime-gpu"),
    (
        {"packages": {"onnxruntime": "1.22", "onnxruntime-gpu": "1.22"}},
        "ONNX Runtime",
        FindingState.NOTE,
        "keep one",
    ),
    ({"packages": {}}, "ONNX Runtime", FindingState.MISSING, "pip install"),
    ({"trt_plugin": None, "plugin_code": None}, "plugin", FindingState.MISSING, "pip install --no-deps ."),
    ({"onnxruntime_cuda": (13, 0), "driver": (12, 8)}, "driver", FindingState.MISSING, "r580"),
    ({"ort_cuda_library": None, "ort_cuda_code": None}, "fused operators on CUDA", FindingState.NOTE, "nvcc"),
    ({"gpus": (Gpu("NVIDIA V100", "7.0"),)}, "fused operators on CUDA's machine code", FindingState.NOTE, "=70"),
    ({"ort_library": None}, "fused operators", FindingState.NOTE, "C++17 compiler"),
    ({"gpus": (Gpu("NVIDIA A100", "8.0"),)}, "plugin's machine code", FindingState.OK, ""),
    ({"gpus": (Gpu("NVIDIA V100", "7.0"),)}, "plugin's machine code", FindingState.MISSING, "ARCHITECTURES=70"),
]


@pytest.mark.parametrize(("change", "topic", "state", "words"), CHANGES)
def test_one_change(change, topic, state, words):
    facts = replace(L4, **change)
    if topic == "plugin's machine code" and state is FindingState.OK:
        facts = replace(facts, plugin_code=GpuCode(frozenset({75, 80}), frozenset(), None))
    found = [f for f in machine_findings(facts) if f.topic == topic]
    assert any(f.state is state and words in f.do for f in found), found


def test_operators_for_cuda_newer_than_the_driver_are_a_note():
    """The function bodies run instead."""
    found = components.operators_on_cuda(replace(L4, driver=(12, 4)))
    assert [(one.topic, one.state) for one in found[-1:]] == [("driver", FindingState.NOTE)]
    assert "serves CUDA 12.4" in found[-1].here and "r580" in found[-1].do
    assert not components.operators_on_cuda(replace(L4, gpus=()))


def test_a_bare_machine_is_told_every_command():
    told = [f for f in machine_findings(BARE) if f.state is not FindingState.OK]
    assert len(told) >= 8
    assert all(f.do for f in told)


@pytest.mark.parametrize(
    ("runtime", "engine", "compatible", "good"),
    [
        ((10, 14, 1, 48), (10, 14, 1, 12), False, True),
        ((10, 14, 0, 48), (10, 14, 1, 48), False, False),
        ((11, 1, 0, 1), (10, 14, 1, 48), False, False),
        ((11, 1, 0, 1), (10, 14, 1, 48), True, True),
        ((10, 13, 0, 1), (10, 14, 1, 48), True, False),
        ((10, 14, 1, 48), None, True, False),
    ],
)
def test_which_runtime_takes_which_engine(runtime, engine, compatible, good):
    assert serves(runtime, engine, compatible) is good


@pytest.mark.parametrize(
    ("capability", "built_for", "good"),
    [
        ("8.6", ["8.6"], True),
        ("8.9", ["8.6"], False),
        ("12.0", ["8.0 and later"], True),
        ("7.5", ["8.0 and later"], False),
    ],
)
def test_which_gpu_takes_which_engine(capability, built_for, good):
    assert fits(capability, built_for) is good


def test_numbers():
    assert components.numbers("10.14.1.post1") == (10, 14, 1)
