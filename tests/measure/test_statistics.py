"""Whether two artifacts differ: how often the test is wrong, under noise of every kind, and what it sees."""

import math

import numpy as np
import pytest
from scipy import stats

from apa_deploy.measure.statistics import compare_turns, percentiles
from apa_deploy.measure.turns import t_quantile, two_sided

LAUNCHES, ROUNDS = 6, 7  # the default pace
RUNS, MOST = 200, 9  # at a level of 1 % 2 are expected to be wrong, and over 9 in one of 10,000 such tests


def quiet(generator, shape):
    return 1 + 0.01 * generator.standard_normal(shape)


def skewed(generator, shape):
    """Latency as it is: a sharp lower edge and a tail."""
    return 1 + 0.05 * generator.lognormal(0, 1, shape)


def outliers(generator, shape):
    """One sample in ten is preempted, and takes up to fifty times as long."""
    return skewed(generator, shape) + (generator.random(shape) < 0.1) * generator.uniform(0, 50, shape)


def stalls(generator, shape):
    """One turn in eight as a whole is slowed down by a neighbour, up to three times."""
    return skewed(generator, shape) * np.where(
        generator.random((*shape[:2], 1)) < 0.125, generator.uniform(1, 3), 1
    )


NOISES = [quiet, skewed, outliers, stalls]


def turns(generator, noise, *, ratio=1.0, drift=0.0, process=0.01, samples=20):
    """One artifact's turns. `drift`: growth over the whole run; `process`: how far launches lie apart."""
    values = noise(generator, (LAUNCHES, ROUNDS, samples))
    values *= 1 + process * generator.standard_normal((LAUNCHES, 1, 1))
    values *= 1 + drift * np.linspace(0, 1, LAUNCHES * ROUNDS).reshape(LAUNCHES, ROUNDS, 1)
    return list(ratio * values.reshape(LAUNCHES * ROUNDS, samples))


def share(verdicts, word):
    return sum(verdict == word for verdict in verdicts) / len(verdicts)


def verdicts(noise, runs, ratio=1.0, **how):
    generator = np.random.default_rng(7)
    return [
        compare_turns(turns(generator, noise, ratio=ratio, **how), turns(generator, noise, **how), LAUNCHES)[2]
        for _ in range(runs)
    ]


@pytest.mark.parametrize("drift", [0.0, 0.5])
@pytest.mark.parametrize("noise", NOISES)
def test_equal_artifacts_are_called_equal(noise, drift):
    assert share(verdicts(noise, RUNS, drift=drift), "no difference") >= 1 - MOST / RUNS


@pytest.mark.parametrize("noise", NOISES)
def test_ten_percent_is_seen(noise):
    assert share(verdicts(noise, 100, ratio=1.1), "slower") >= 0.95
    assert share(verdicts(noise, 100, ratio=1 / 1.1), "faster") >= 0.95


def test_processes_that_differ_are_not_mistaken_for_artifacts():
    """Two processes of one file lie 5 % apart for as long as they live: only launches show it, not turns."""
    assert share(verdicts(quiet, RUNS, process=0.05), "no difference") >= 1 - MOST / RUNS


def test_a_test_that_took_turns_for_independent_would_be_wrong():
    """The planted fault: 42 turns as 42 launches. It calls equal artifacts different, one time in four."""
    generator = np.random.default_rng(7)
    pairs = [(turns(generator, quiet, process=0.05), turns(generator, quiet, process=0.05)) for _ in range(100)]
    said = [compare_turns(a, b, LAUNCHES * ROUNDS)[2] for a, b in pairs]
    assert share(said, "no difference") < 0.9


def test_a_sure_but_tiny_difference_is_none():
    generator = np.random.default_rng(0)
    ratio, p, verdict = compare_turns(*(turns(generator, quiet, ratio=r, process=0) for r in (1.007, 1)), LAUNCHES)
    assert p < 0.01
    assert ratio.value == pytest.approx(1.007, abs=0.003)
    assert verdict == "no difference"


def test_the_interval_holds_the_truth():
    generator, held = np.random.default_rng(3), 0
    for _ in range(200):
        ratio, _, _ = compare_turns(turns(generator, skewed, ratio=1.2), turns(generator, skewed), LAUNCHES)
        held += ratio.low <= 1.2 <= ratio.high
    assert held >= 200 - MOST  # 99 %


def test_identical_samples():
    same = [[1.0, 1.0]] * 4
    assert compare_turns(same, same, 2)[1:] == (1.0, "no difference")
    ratio, p, _ = compare_turns([[2.0]] * 4, [[1.0]] * 4, 2)
    assert (ratio.value, p) == (2.0, 0.0)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 20, 51])
def test_students_distribution(freedom):
    for t in (0.0, 0.1, 1.0, 2.5, 7.0, 60.0):
        assert two_sided(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), abs=1e-14)
        assert two_sided(-t, freedom) == two_sided(t, freedom)
    for level in (0.975, 0.995):
        assert t_quantile(level, freedom) == pytest.approx(stats.t.ppf(level, freedom), rel=1e-9)


def test_percentiles():
    generator = np.random.default_rng(1)
    p50, p90, p99, mean = percentiles([generator.exponential(size=400) for _ in range(50)])
    # 20,000 exponential samples: quantile q at -ln(1-q), standard error sqrt(q/(1-q)/n), five of them
    for found, q, error in ((p50, 0.5, 0.007), (p90, 0.9, 0.021), (p99, 0.99, 0.07)):
        assert abs(found.value + math.log(1 - q)) < 5 * error
        assert found.low <= found.value <= found.high
        # 95 %: 4 standard errors wide, by a bootstrap of 50 turns within a factor of two
        assert 2 * error < found.high - found.low < 8 * error
    assert mean.value == pytest.approx(1, abs=5 * 0.007)


def test_percentiles_of_dependent_samples_are_wider():
    """Samples of one turn that move together say less than their number."""
    generator = np.random.default_rng(2)
    levels = 1 + 0.1 * generator.standard_normal((20, 1))
    together = levels + 0.001 * generator.standard_normal((20, 100))
    apart = generator.permutation(together.ravel()).reshape(20, 100)
    widths = [p50.high - p50.low for p50, *_ in (percentiles(list(together)), percentiles(list(apart)))]
    assert widths[0] > 3 * widths[1]


def test_one_turn_has_no_interval():
    p50, *_ = percentiles([[1.0, 2.0, 3.0]])
    assert p50.value == 2
    assert p50.low is p50.high is None


def test_two_launches_that_know_nothing():
    ratio, p, verdict = compare_turns([[1e9], [1e-9]], [[1.0], [1.0]], 2)
    assert verdict == "no difference"
    assert p == pytest.approx(1)
    assert ratio.low < 1 < ratio.high < math.inf
