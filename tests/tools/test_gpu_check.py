"""The analysis of tools/gpu_check on recorded samples, and its parts beside stand-ins for what a GPU gives."""

import itertools
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from apa_deploy.errors import GateError, InputError, MissingError
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.runtimes.cuda_driver import device_count
from apa_deploy.tensors.signature import image_signature
from tests.networks import RawActivation, tiny_net
from tools.gpu_check import analysis, beside, building, clocks, engines, exhaustive, kernels, latency, library, plan
from tools.gpu_check.outcome import Outcome, State, exit_code, outcome_of
from tools.gpu_check.page import page

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("count", [1, 2, 7, 100, 401])
def test_percentiles_are_numpy_s_and_clip_nothing(count):
    samples = np.random.default_rng(count).lognormal(size=count).tolist()
    found = analysis.percentiles(samples)
    for q in analysis.QUANTILES:
        assert found[f"p{q}"] == pytest.approx(np.percentile(samples, q), rel=1e-12)
    assert (found["min"], found["max"]) == (min(samples), max(samples))
    assert found["mean"] == pytest.approx(np.mean(samples))


def test_no_samples():
    with pytest.raises(ValueError, match="no samples"):
        analysis.percentiles([])


def test_share_of_copy_takes_pairs():
    # the clock drops by half in the middle: pairs still tell 0.8, a ratio of medians of either half would too,
    # but a ratio of a kernel before to a copy after would not
    copies, kernels_ = [1.0] * 5 + [2.0] * 5, [1.25] * 5 + [2.5] * 5
    assert analysis.share_of_copy(kernels_, copies) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="zip"):
        analysis.share_of_copy([1.0], [1.0, 2.0])


def _row(kernel_ms, mib=256):
    return {
        "kernel": "scalar, lambda < 1/4",
        "element": "float16",
        "bytes": mib << 20,
        "kernel_ms": [kernel_ms] * 4,
        "copy_ms": [1.0] * 4,
    }


@pytest.mark.parametrize(
    ("kernel_ms", "mib", "good"), [(1.05, 256, True), (1.4, 256, False), (1.4, 8, None), (1.05, 48, True)]
)
def test_bandwidth_verdict(kernel_ms, mib, good):
    row = analysis.bandwidth_row(_row(kernel_ms, mib), l2_bytes=48 << 20, gpu="NVIDIA H200")
    assert row["good"] is good
    assert row["of copy"] == pytest.approx(1 / kernel_ms, abs=1e-3)
    assert row["copy GB/s"] == pytest.approx(2 * (mib << 20) / 1e6, abs=0.05)


@pytest.mark.parametrize(
    ("gpu", "kernel", "least"),
    [
        ("NVIDIA H200", "scalar, lambda < 1/4", 0.85),
        ("NVIDIA B200", "scalar, lambda < 1/4", 0.85 * 0.79),  # special functions bind there
        ("NVIDIA A100-SXM4-40GB", "per channel, channels first", 0.85),
        ("a GPU to come", "scalar, lambda < 1/4", 0.85 * 0.79),
    ],
)
def test_the_bar_is_the_roofline_s(gpu, kernel, least):
    assert analysis.least_share(gpu, kernel, "float16") == pytest.approx(least, abs=0.03)


def test_every_row_of_the_device_program_has_a_bar():
    source = (building.DEVICE / "bandwidth.cc").read_text()
    cases = re.findall(r'\{"([^"]+)", Element::(\w+),', source)
    assert len(cases) == 10
    for kernel, element in cases:
        assert 0.2 < analysis.least_share("NVIDIA H200", kernel, element.lower()) <= 0.85


def test_a_slow_kernel_fails_the_part_and_keeps_its_samples():
    rows, device = [_row(1.05), _row(1.6)], {"l2_bytes": 48 << 20, "name": "NVIDIA H100 80GB HBM3"}
    outcome = kernels.judge_bandwidth({"device": device, "rows": rows}, {"not read": "x"})
    assert outcome.state is State.FAILED
    assert "scalar, lambda < 1/4 float16 256.0 MiB" in outcome.reason
    assert outcome.facts["samples"] == rows
    good = kernels.judge_bandwidth({"device": device, "rows": rows[:1]}, {})
    assert good.state is State.PASSED


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (0x0, []),
        (0x1, ["idle"]),
        (0x44, ["power cap", "hardware thermal slowdown"]),
        (0x1FF, list(analysis.THROTTLE_REASONS.values())),
    ],
)
def test_throttle_reasons(mask, names):
    assert analysis.throttle_reasons(mask) == names


def test_what_slowed_down_leaves_out_idleness():
    assert analysis.find_slowdowns([0x1, 0x4, 0x4, 0x24, 0x2]) == ["power cap", "software thermal slowdown"]


@pytest.mark.parametrize(
    ("plugin", "decomposed", "words"),
    [
        (1.0, 1.2, "plugin: faster beyond noise"),
        (1.2, 1.0, "decomposed: faster beyond noise"),
        (1.0, 1.005, "decomposed: the simpler, within noise or 1%"),
    ],
)
def test_verdict(plugin, decomposed, words):
    assert words in analysis.verdict([plugin] * 60, [decomposed] * 60)


def _latencies():
    rng = np.random.default_rng(3)
    medians = {"plugin": 1.2, "decomposed": 1.05, "silu twin": 1.0}
    return {name: (value + rng.gamma(2, 0.01, 300)).tolist() for name, value in medians.items()}


def test_latency_is_summed_up():
    samples = {"batch 1, CUDA graph on": _latencies()}
    outcome = latency.sum_up(samples, {"slowed down by": []})
    assert outcome.state is State.PASSED
    rows = {row["engine"]: row for row in outcome.rows}
    assert rows["silu twin"]["over twin"] == 1
    assert rows["plugin"]["over twin"] == pytest.approx(1.2, abs=0.02)
    assert rows["plugin"]["p99"] >= rows["plugin"]["p50"]
    assert "decomposed: faster" in outcome.facts["verdicts"]["batch 1, CUDA graph on"]
    assert outcome.facts["samples"] == samples


def test_blocks_alternate():
    order = []

    def timer(name):
        return lambda: order.append(name) or 1.0

    samples = latency.in_turns({"a": timer("a"), "b": timer("b")})
    assert {name: len(values) for name, values in samples.items()} == dict.fromkeys("ab", 300)
    timed = order[2 * latency.WARM_UP :]
    starts = [timed[i * 2 * latency.A_BLOCK] for i in range(latency.BLOCKS)]
    assert starts == ["a", "b"] * (latency.BLOCKS // 2)


def _nvidia_smi(folder: Path, old: bool) -> None:
    """A script that answers as nvidia-smi does, again and again with --loop-ms; old: the former column name."""
    refused = "clocks_event_reasons" if old else "clocks_throttle_reasons"
    script = f"""#!/bin/sh
case "$*" in *{refused}*) echo 'Field "x" is not a valid field to query.'; exit 2;; esac
answer="1410, 1215, 1980, 61, 248.10, 0x0000000000000004"
case "$*" in *--loop-ms*)
    trap 'printf "1, 1, 1, 1, 1, 0x"; exit' TERM  # ended in the middle of a line
    while :; do echo "$answer"; sleep 0.05; done;;
esac
echo "$answer"
"""
    path = folder / "nvidia-smi"
    path.write_text(script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize("old", [False, True])
def test_clocks(tmp_path, monkeypatch, old):
    _nvidia_smi(tmp_path, old)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert clocks.read() == clocks.Reading(1410, 1215, 1980, 61, 248.1, 4)
    assert clocks.readable().state is State.PASSED
    with clocks.Watch() as watch:
        while watch._lines.tell() == 0 and os.fstat(watch._lines.fileno()).st_size < 100:
            pass
    facts = watch.facts()
    assert facts["sm_mhz"] == [1410, 1410]
    assert facts["slowed down by"] == ["power cap"]
    assert facts["readings"] >= 1


def test_clocks_that_the_gpu_does_not_tell():
    assert clocks.parse_clocks("[N/A], 1215, 1980, 61, [Not Supported], 0x1").watts is None


def test_without_nvidia_smi(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert outcome_of("clocks", clocks.readable).state is State.SKIPPED
    with clocks.Watch() as watch:
        pass
    assert "not in PATH" in watch.facts()["not read"]


def test_the_twin_has_silu_for_every_unit():
    twin = engines.twin(TorchNetwork(tiny_net(), image_signature((3, 8, 8)), Metadata("tiny"))).module
    kinds = [type(module) for module in twin.modules()]
    assert (kinds.count(nn.SiLU), kinds.count(nn.Sigmoid)) == (2, 1)
    assert not any(isinstance(module, RawActivation) for module in twin.modules())
    assert twin(torch.zeros(1, 3, 8, 8)).shape == (1, 5)


PASSPORT = {
    "build": {"note": "engine executed on NVIDIA L4", "launches": {"gemm": 3, "PluginV3": 2}, "types": {"fp16": 5},
              "seconds": 12.34},
    "outputs": [{"bytes": 51_000_000}],
    "parity": {
        "outputs": [
            {"runner": "ONNX Runtime 1.32", "max_rel": 1.0, "limit": 0.1},
            {"runner": "TensorRT on NVIDIA L4", "max_rel": 1e-4, "limit": 1e-2},
            {"runner": "TensorRT on NVIDIA L4", "max_rel": 5e-3, "limit": 1e-2},
        ]
    },
}  # fmt: skip


def test_engine_row():
    row = engines.engine_row("plugin", PASSPORT)
    assert (row["kernels"], row["MB"], row["max error"], row["limit"]) == (5, 51.0, 5e-3, 1e-2)
    assert engines.engine_row("plugin", {**PASSPORT, "parity": None})["max error"] is None


@pytest.mark.parametrize(("codes", "state"), [((0, 0), "passed"), ((0, 3), "skipped"), ((3, 1), "failed")])
def test_engines_are_judged(codes, state):
    rows = [{"engine": f"e{i}", "built": code == 0, "code": code, "said": "why"} for i, code in enumerate(codes)]
    outcome = engines.judge_engines(rows)
    assert outcome.state == state
    assert ("why" in outcome.reason) is (state != "passed")


@pytest.fixture(scope="module")
def beside_a_gpu(machine, tmp_path_factory):
    """Engines and latency beside a stand-in for TensorRT, which checks every call, and one for the driver."""
    pytest.importorskip("cuda.bindings", reason="cuda-python is not installed")
    folder = tmp_path_factory.mktemp("engines")
    environment = (
        os.environ | machine.variables(11) | {"PYTHONPATH": f"{machine.variables(11)['PYTHONPATH']}:{ROOT}"}
    )
    command = [sys.executable, str(Path(__file__).with_name("gpu_check_child.py")), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_engine_is_built_and_judged(beside_a_gpu):
    outcome = beside_a_gpu["engines"]
    assert (outcome["state"], outcome["reason"]) == ("passed", "")
    assert [row["engine"] for row in outcome["rows"]] == list(engines.NAMES)
    assert all(0 <= row["max error"] <= row["limit"] for row in outcome["rows"])
    assert beside_a_gpu["said"] == [f"engine: {name}" for name in engines.NAMES]


def test_the_driver_does_what_a_session_asks(beside_a_gpu):
    outcome = beside_a_gpu["driver"]
    assert (outcome["state"], outcome["reason"]) == ("passed", "")
    assert [row["good"] for row in outcome["rows"]] == [True] * 4


def test_the_kernels_of_plans_are_compiled_launched_and_judged(beside_a_gpu):
    outcome, faulty = beside_a_gpu["plan"], beside_a_gpu["faulty plan"]
    assert (outcome["state"], outcome["reason"]) == ("passed", "")
    names = {row["name"] for row in outcome["rows"]}
    kinds = [("unit", "gate"), ("small", "large"), plan.ELEMENTS]
    assert names == {f"apa_{kind}_{regime}_{element}" for kind, regime, element in itertools.product(*kinds)}
    assert faulty["state"] == "failed" and not any(row["good"] for row in faulty["rows"] if "float" in row["name"])


@pytest.mark.skipif(device_count() > 0, reason="this machine has a GPU")
def test_torch_without_a_gpu_and_on_the_cpu():
    missing = outcome_of("torch", beside.check_torch)
    assert missing.state is State.SKIPPED and "torch sees no GPU" in missing.reason
    found = beside.check_torch("cpu", sizes=(1,), turns=2)
    assert [row["element"] for row in found.rows] == list(beside.ELEMENTS)
    assert all(row["copy"] == 1 and row["AGLU eager"] > 0 and row["SiLU eager"] > 0 for row in found.rows)


def test_every_engine_is_timed_with_and_without_a_graph(beside_a_gpu):
    outcome = beside_a_gpu["latency"]
    assert (outcome["state"], outcome["reason"]) == ("passed", "")
    settings = {f"batch {batch}, CUDA graph {graph}" for batch in (1, 8) for graph in ("on", "off")}
    assert {(row["setting"], row["engine"]) for row in outcome["rows"]} == {
        (setting, engine) for setting in settings for engine in engines.NAMES
    }
    assert set(outcome["facts"]["verdicts"]) == settings
    runs = latency.BLOCKS * latency.A_BLOCK
    assert all(len(v) == runs for by_engine in outcome["facts"]["samples"].values() for v in by_engine.values())


@pytest.mark.skipif(device_count() > 0, reason="this machine has a GPU")
def test_engines_without_a_gpu():
    outcome = outcome_of("engines", engines.check_machine)
    assert outcome.state is State.SKIPPED
    assert "the package tensorrt" in outcome.reason
    assert "the NVIDIA driver" in outcome.reason
    assert "apa-deploy[gpu]" in outcome.do


def _raising(error):
    def run():
        raise error

    return run


def test_outcomes_and_exit_codes():
    passed = Outcome("a", State.PASSED)
    missing = outcome_of("b", _raising(MissingError("no nvcc", "nvcc", "Install it.")))
    failed = outcome_of("c", _raising(GateError("wrong", "right", "Look.")))
    misuse = outcome_of("d", _raising(InputError("bad", "good", "Correct it.")))
    assert (missing.state, missing.do) == (State.SKIPPED, "Install it.")
    assert (failed.state, misuse.state) == (State.FAILED, State.FAILED)
    bare = outcome_of("f", _raising(ModuleNotFoundError("No module named 'onnx'", name="onnx")))
    assert (bare.state, bare.reason.split(";")[0]) == (State.SKIPPED, "the package onnx is not here")
    crashed = outcome_of("e", _raising(KeyError("rows")))
    assert (crashed.state, crashed.reason) == (State.FAILED, "unexpected KeyError: 'rows'")
    assert [exit_code(o) for o in ([passed], [passed, missing], [missing, failed], [])] == [0, 3, 1, 0]


def _script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


ROW = '{"suite": "values", "checks": 9, "failures": %d, "seconds": 0.1, "facts": {}}'


def _drive(tmp_path, monkeypatch, program, sanitizer=None, capability=90):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if sanitizer:
        _script(tmp_path, "compute-sanitizer", sanitizer)
    kept = []
    program, named = _script(tmp_path, "p", program), {"APA_TRT_LIBRARY": tmp_path}
    outcome = library.drive_library("library", program, named, tmp_path, capability, kept.append)
    return outcome, kept


def test_the_library_is_driven_in_every_way_that_is_here(tmp_path, monkeypatch):
    program = f"echo \"$@ $CUDA_FORCE_PTX_JIT\" >> {tmp_path}/asked; echo '{ROW % 0}'"
    outcome, kept = _drive(tmp_path, monkeypatch, program, sanitizer='shift 4; exec "$@"')
    assert (outcome.state, len(kept)) == (State.PASSED, 4)
    assert [row["run"] for row in outcome.rows] == ["as built", "from PTX", "memcheck", "racecheck"]
    assert (tmp_path / "asked").read_text() == " \n--small 1\n--small \n--small \n"


@pytest.mark.parametrize(
    ("program", "sanitizer", "capability", "state", "said"),
    [
        (f"echo FAIL here; echo '{ROW % 1}'; exit 1", None, 90, "failed", "as built: values"),
        (f"echo '{ROW % 0}'; kill -SEGV $$", None, 90, "failed", "as built: its process was ended by SIGSEGV"),
        (f"echo '{ROW % 0}'", f"echo '{ROW % 0}'; exit 9", 90, "failed", "memcheck: its process ended with code 9"),
        (f"echo '{ROW % 0}'", "echo Device not supported; exit 1", 75, "passed", ""),
        ("echo no device >&2; exit 3", None, 90, "skipped", "no device"),
    ],
)
def test_what_the_library_s_runs_say(tmp_path, monkeypatch, program, sanitizer, capability, state, said):
    outcome = outcome_of("library", lambda: _drive(tmp_path, monkeypatch, program, sanitizer, capability)[0])
    assert (outcome.state, said in outcome.reason) == (state, True)
    if capability == 75:
        skipped = [row["suite"] for row in outcome.rows if row["checks"] == 0]
        assert skipped == ["skipped: its PTX is of 9.0, the GPU of 7.5", *["skipped: Device not supported"] * 2]


def _floats(**changes):
    row = {"kind": "APA", "lambda": 0.5, "kappa": 1, "floats": 2**32, "worst": 1e-6, "at": "0x3f800000", "wrong": 0}
    return [row] * 47 + [row | changes]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (_floats(), ""),
        (_floats(worst=1.6e-6), "1.6e-06 at 0x3f800000"),
        (_floats(worst=float("nan")), "nan at"),
        (_floats(wrong=3), "3 results are wrongly finite"),
        (_floats(floats=2**31), "2147483648 floats"),
        (_floats()[1:], "47 of 48 rows"),
    ],
)
def test_every_float_is_judged(rows, reason):
    outcome = exhaustive.judge_floats(rows)
    assert (outcome.state, reason in outcome.reason) == (State.FAILED if reason else State.PASSED, True)


def test_page_escapes():
    part = Outcome("k", State.FAILED, reason="<script>", rows=[{"a": None, "b": [1, 2], "c": 0.123456}]).as_json()
    report = {"verdict": "failed", "tool": "t", "created": "now", "machine": {}, "parts": [part]}
    html = page(report)
    assert "&lt;script&gt;" in html
    assert "0.1235" in html
