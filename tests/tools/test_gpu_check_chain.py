"""The part chain of tools/gpu_check: its judgement, and its program on the CPU, where every dependent launch begins
before what precedes it has done anything."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tools.gpu_check import building as device_building
from tools.gpu_check.chain import CASES, SIZES, judge_chains, measure_chains
from tools.gpu_check.outcome import State, outcome_of
from tools.gpu_check.page import page

sys.path.append(str(device_building.TESTS))

import trt_building as building

HERE = Path(__file__).parent
FLAGS = ("-O1", "-g0")


def _row(ratio=0.9, differ=0, **changes):
    times = {"plain": [2.0] * 20, "dependent": [2.0 * ratio] * 20}
    row = {"kernel": "scalar", "element": "float16", "bytes": 65536, "us": {"stream": times, "graph": times}}
    return row | {"differ": {"stream": 0, "graph": differ}} | changes


ROWS = [_row()] * (CASES * len(SIZES))


@pytest.mark.parametrize(
    ("rows", "reason", "state", "says"),
    [
        (ROWS, "", State.PASSED, ""),
        (ROWS[1:], "", State.FAILED, "23 of 24 rows"),
        ([*ROWS[1:], _row(differ=3)], "", State.FAILED, "scalar float16 64 KiB: 3 runs differ (graph)"),
        (ROWS[:2], "no end after 60 s", State.FAILED, "no end after 60 s"),
        ([], "ended by SIGSEGV", State.FAILED, "ended by SIGSEGV"),
    ],
)
def test_bits_are_judged_and_all_rows_wanted(rows, reason, state, says):
    outcome = judge_chains(rows, reason)
    assert (outcome.state, outcome.reason) == (state, says)
    assert len(outcome.rows) == len(rows)


@pytest.mark.parametrize(("ratio", "words"), [(0.9, "faster in 24 rows and slower in 0"), (1.1, "slower in 24"),
                                              (1.005, "faster in 0 rows and slower in 0")])  # fmt: skip
def test_which_way_is_faster_is_shown_and_not_judged(ratio, words):
    outcome = judge_chains([_row(ratio)] * 24)
    assert outcome.state is State.PASSED and words in outcome.facts["verdict"]
    assert outcome.rows[0]["dependent/plain, graph"] == outcome.rows[0]["dependent/plain, stream"] == ratio
    report = {"verdict": "passed", "tool": "t", "created": "now", "machine": {}, "parts": [outcome.as_json()]}
    html = page(report)
    assert "dependent/plain, graph" in html and f"<td>{ratio}</td>" in html and words in html


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A function: the program over the product's sources, or over those with a line less, by file."""
    building.include_flags()  # fetched once, before threads ask
    folder = tmp_path_factory.mktemp("chain")
    own = {
        building.TESTS / "cuda_cpu_runtime.cc": ("-DCAPTURES_ELSEWHERE=false",),
        building.TESTS / "cuda_cpu_streams.cc": (),
        **dict.fromkeys((building.TENSORRT / "activation.cc", building.TENSORRT / "layout.cc"), ()),
    }

    def compiled(source):
        return building.compiled(source, folder / f"{source.name}.o", *FLAGS, *own[source])

    with ThreadPoolExecutor(max_workers=2) as pool:
        objects = list(pool.map(compiled, own))

    def make(name, without=""):
        product = folder / name
        shutil.copytree(building.TENSORRT, product)
        if without:
            path = product / without
            text = path.read_text()
            assert text.count("take_turn(dependent);") == 1
            path.write_text(text.replace("take_turn(dependent);", "static_cast<void>(dependent);"))
        flags = (*FLAGS, "-I", str(device_building.DEVICE), f"-I{building.TESTS}")
        chain = building.compiled(HERE / "chain_cpu.cc", folder / f"{name}.o", *flags, product=product)
        return building.linked([chain, *objects], folder / f"{name}.program")

    return make


def test_the_program_finds_every_bit_the_same_and_what_is_out_of_turn(program, tmp_path, monkeypatch):
    right = program("right")
    outcome = measure_chains(right, tmp_path, (4096, 65536), 2)
    assert (outcome.state, outcome.reason) == (State.PASSED, "")
    assert {row["KiB"] for row in outcome.rows} == {4, 64} and len(outcome.rows) == 2 * CASES
    assert all(row["same bits"] for row in outcome.rows)
    monkeypatch.setenv("CODE", "86")
    skipped = outcome_of("chain", lambda: measure_chains(right, tmp_path, (4096,), 2))
    assert skipped.state is State.SKIPPED and "9.0 or later, for dependent launches" in skipped.reason
    monkeypatch.delenv("CODE")
    wrong = measure_chains(program("wrong", without="kernels/scalar.cuh"), tmp_path, (4096,), 2)
    assert wrong.state is State.FAILED
    for way in ("stream", "graph"):
        assert f"scalar float16 4 KiB: 10 runs differ ({way})" in wrong.reason
    assert "channels last" not in wrong.reason  # lanes wait for themselves
