"""The analysis of tools/gpu_check on recorded samples."""

import re
from pathlib import Path

import numpy as np
import pytest

from tools.gpu_check import analysis, building, exhaustive, kernels, latency
from tools.gpu_check.outcome import State

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
    cases = re.findall(r'\{"([^"]+)", Element::(\w+),[^}]*?(true)?\}', source)
    assert len(cases) == 12
    assert sum(bool(codes) for *_, codes in cases) == 4
    for kernel, element, codes in cases:
        name = element.lower() + " to int8" * bool(codes)
        assert 0.2 < analysis.least_share("NVIDIA H200", kernel, name) <= 0.85


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
