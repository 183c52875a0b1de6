"""The parts of tools/gpu_check beside stand-ins for what a GPU gives, and what becomes of them."""

import itertools
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from apa_deploy.errors import GateError, InputError, MissingError
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.runtimes.cuda_driver import device_count
from apa_deploy.tensors.signature import image_signature
from tests.networks import RawActivation, tiny_net
from tools.gpu_check import beside, clocks, engines, latency, plan
from tools.gpu_check.outcome import Outcome, State, exit_code, outcome_of
from tools.gpu_check.page import page

ROOT = Path(__file__).parents[2]


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
    kept = []
    found = beside.check_torch("cpu", sizes=(1,), turns=2, keep=lambda known: kept.append(len(known.rows)))
    assert kept == [1, 2]  # where it is cut off, these are there
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


def test_page_escapes():
    part = Outcome("k", State.FAILED, reason="<script>", rows=[{"a": None, "b": [1, 2], "c": 0.123456}]).as_json()
    report = {"verdict": "failed", "tool": "t", "created": "now", "machine": {}, "parts": [part]}
    html = page(report)
    assert "&lt;script&gt;" in html
    assert "0.1235" in html
