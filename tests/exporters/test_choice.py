"""apa_exporters.tensorrt.on_target.choice: which engine is kept, as tables of samples and verdicts."""

import numpy as np
import pytest
from apa_exporters.tensorrt.on_target.choice import Candidate, choose_engine

COUNT = 60
DECOMPOSED = [1.0, 1.0, 1.0]


def samples(milliseconds, noise=0.02, seed=0):
    """Latencies as they are measured: a floor, and a tail to the right."""
    generator = np.random.default_rng(seed)
    return list(milliseconds * (1 + noise * generator.gamma(2, 1, COUNT)))


def builds(times, seed=0, **sizes):
    """Of each build, at the usual size and, at a ratio to it, at others; builds differ by half a percent."""
    sizes = {"usual": 1.0} | sizes
    return [
        {size: samples(time * by * (1 + 0.005 * (at - 1)), seed=seed + at) for size, by in sizes.items()}
        for at, time in enumerate(times)
    ]


TABLE = [
    ("plugin faster", [0.8] * 3, "plugin", "plugin is faster beyond noise"),
    ("decomposed faster", [1.2] * 3, "decomposed", "decomposed is faster beyond noise"),
    ("the same", [1.0] * 3, "decomposed", "decomposed is the simpler"),
    ("surely faster, by too little", [0.995] * 3, "decomposed", "decomposed is the simpler"),
    ("faster in one build of three", [0.7, 1.02, 1.0], "decomposed", "decomposed is the simpler"),
    ("builds that differ more than the gain", [0.8, 1.1, 0.9], "decomposed", "decomposed is the simpler"),
]


@pytest.mark.parametrize(("plugin", "kept", "reason"), [c[1:] for c in TABLE], ids=[c[0] for c in TABLE])
def test_of_two_that_are_right(plugin, kept, reason):
    for order in (1, -1):
        both = [
            Candidate("decomposed", True, builds(DECOMPOSED)),
            Candidate("plugin", True, builds(plugin, seed=7)),
        ][::order]
        found = choose_engine(both)
        assert found.name == kept
        assert found.reason.startswith(reason) and "3 builds" in found.reason


def test_a_size_that_found_no_memory_in_one_build_is_left_out():
    """The largest, where several contexts at once do not fit each time."""
    both = [builds([by] * 3, seed=at, largest=4.0) for at, by in enumerate((1.0, 0.8))]
    del both[0][1]["largest"], both[1][1]["largest"]
    found = choose_engine([Candidate("decomposed", True, both[0]), Candidate("plugin", True, both[1])])
    assert found.name == "plugin" and "usual" in found.reason and "largest" not in found.reason


PRECISIONS = [
    ("8 bits faster", {"fp16": 1.0, "int8": 0.8}, "int8 decomposed", "int8 decomposed is faster beyond noise"),
    ("the same", {"fp16": 1.0, "int8": 1.0}, "fp16 decomposed", "fp16 decomposed is the more exact"),
    ("the coarsest fastest", {"fp8": 0.6, "fp16": 1.0, "int8": 0.8}, "fp8 decomposed", "fp8 decomposed is faster"),
    ("the middle fastest", {"fp8": 1.0, "fp16": 1.2, "int8": 0.8}, "int8 decomposed", "int8 decomposed is faster"),
]


@pytest.mark.parametrize(("times", "kept", "reason"), [c[1:] for c in PRECISIONS], ids=[c[0] for c in PRECISIONS])
def test_of_several_precisions(times, kept, reason):
    tried = [
        Candidate("decomposed", True, builds([by] * 3, seed=7 * at), name)
        for at, (name, by) in enumerate(times.items())
    ]
    found = choose_engine(tried)
    assert found.name == kept and reason in found.reason
    wrong = [Candidate(c.activation, c.name != kept, c.builds, c.precision) for c in tried]
    assert choose_engine(wrong).name not in (kept, None)


CODES = [
    ("codes faster", {"plugin": 0.9, "plugin-codes": 0.8}, "plugin-codes", "plugin-codes is faster beyond noise"),
    ("codes no faster", {"plugin": 0.8, "plugin-codes": 0.8}, "plugin", "plugin is the simpler"),
    ("by too little", {"plugin": 0.8, "plugin-codes": 0.796}, "plugin", "plugin is the simpler"),
    ("than the plugin alone", {"plugin": 1.2, "plugin-codes": 1.1}, "decomposed", "decomposed is faster"),
]


@pytest.mark.parametrize(("times", "kept", "reason"), [c[1:] for c in CODES], ids=[c[0] for c in CODES])
def test_of_a_plugin_that_may_write_codes(times, kept, reason):
    tried = [
        Candidate(name, True, builds([by] * 3, seed=7 * at), "int8")
        for at, (name, by) in enumerate({"decomposed": 1.0, **times}.items())
    ]
    found = choose_engine(tried[::-1])
    assert found.name == f"int8 {kept}" and f"int8 {reason}" in found.reason


def test_every_size_counts():
    """Faster at one image, slower by as much at the largest batch."""
    plugin = builds([1.0] * 3, seed=7, least=0.7, largest=1 / 0.7)
    decomposed = builds([1.0] * 3, least=1.0, largest=1.0)
    found = choose_engine([Candidate("plugin", True, plugin), Candidate("decomposed", True, decomposed)])
    assert found.name == "decomposed" and all(one in found.reason for one in ("least 0.", "largest 1."))


VERDICTS = [
    ((True, False), "decomposed", "plugin did not pass"),
    ((False, True), "plugin", "decomposed did not pass"),
    ((False, False), None, "none passed: decomposed, plugin"),
]


@pytest.mark.parametrize(("passed", "kept", "reason"), VERDICTS)
def test_what_failed_is_never_kept(passed, kept, reason):
    """However fast: those that failed have no samples, or the best."""
    for times in ([], [0.001] * 3):
        both = [
            Candidate(name, ok, builds(DECOMPOSED) if ok else builds(times))
            for name, ok in zip(("decomposed", "plugin"), passed, strict=True)
        ]
        assert (choose_engine(both).name, choose_engine(both).reason) == (kept, reason)


@pytest.mark.parametrize("name", ["plugin", "decomposed"])
def test_one_alone(name):
    assert choose_engine([Candidate(name, True, builds([1.0]))]).name == name
    assert choose_engine([Candidate(name, False, [])]).name is None


def test_noise_alone_is_seldom_a_gain():
    """Of 300 trials without a difference, builds that differ by 2 %: at most 1 % plus binomial noise."""
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        times = np.exp(0.02 * generator.standard_normal((2, 3)))
        both = [
            Candidate(name, True, [{"usual": [float(t)]} for t in row])
            for name, row in zip(("decomposed", "plugin"), times, strict=True)
        ]
        wrong += choose_engine(both).name == "plugin"
    assert wrong <= 6
