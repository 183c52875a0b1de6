"""apa_exporters.tensorrt.on_target.choice: which engine is kept, as tables of samples and verdicts."""

import numpy as np
import pytest
from apa_exporters.tensorrt.on_target.choice import Candidate, choose_engine, gain_interval

COUNT = 200


def samples(milliseconds, noise=0.02, seed=0):
    """Latencies as they are measured: a floor, and a tail to the right."""
    generator = np.random.default_rng(seed)
    return list(milliseconds * (1 + noise * generator.gamma(2, 1, COUNT)))


def slipping(start, end):
    """Clocks that fall while both are measured, alike for both."""
    return list(np.linspace(start, end, COUNT))


TABLE = [
    ("plugin faster beyond noise", samples(0.8), samples(1.0, seed=1), "plugin", "faster beyond noise"),
    ("decomposed faster beyond noise", samples(1.2), samples(1.0, seed=1), "decomposed", "faster beyond noise"),
    ("the same", samples(1.0), samples(1.0, seed=1), "decomposed", "the simpler"),
    ("faster, but within noise", samples(0.99, 0.5), samples(1.0, 0.5, 1), "decomposed", "the simpler"),
    ("surely faster, by too little", [0.995] * COUNT, [1.0] * COUNT, "decomposed", "the simpler"),
    ("clocks slip, plugin faster", slipping(0.9, 1.8), slipping(1.0, 2.0), "plugin", "faster beyond noise"),
    ("one outlier changes nothing", [*[0.8] * 19, 90.0], [1.0] * 20, "plugin", "faster beyond noise"),
    ("too few to tell", [0.8, 1.3], [1.0, 1.0], "decomposed", "the simpler"),
]


@pytest.mark.parametrize(
    ("plugin", "decomposed", "kept", "reason"), [c[1:] for c in TABLE], ids=[c[0] for c in TABLE]
)
def test_of_two_that_are_right(plugin, decomposed, kept, reason):
    for order in (1, -1):
        both = [Candidate("decomposed", True, decomposed), Candidate("plugin", True, plugin)][::order]
        found = choose_engine(both)
        assert found.activation == kept
        assert found.reason.startswith(reason)


VERDICTS = [
    ((True, False), "decomposed", "plugin did not pass"),
    ((False, True), "plugin", "decomposed did not pass"),
    ((False, False), None, "none passed: decomposed, plugin"),
]


@pytest.mark.parametrize(("passed", "kept", "reason"), VERDICTS)
def test_what_failed_is_never_kept(passed, kept, reason):
    """However fast: those that failed have no samples, or the best."""
    for times in ([], [0.001] * COUNT):
        both = [
            Candidate(name, ok, samples(1.0) if ok else times)
            for name, ok in zip(("decomposed", "plugin"), passed, strict=True)
        ]
        assert (choose_engine(both).activation, choose_engine(both).reason) == (kept, reason)


@pytest.mark.parametrize("name", ["plugin", "decomposed"])
def test_one_alone(name):
    assert choose_engine([Candidate(name, True, [1.0])]).activation == name
    assert choose_engine([Candidate(name, False, [])]).activation is None


def test_interval_covers_the_truth_as_often_as_it_says():
    """99 % of 500 trials of a true gain of 10 %; binomial noise allows 97.8 %."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(500):
        base = 1 + 0.3 * generator.standard_normal(60)
        gain = 0.1 + 0.05 * generator.standard_t(3, 60)
        lowest, _, highest = gain_interval(list(base * (1 - gain)), list(base))
        hits += lowest <= 0.1 <= highest
    assert hits / 500 > 0.978
