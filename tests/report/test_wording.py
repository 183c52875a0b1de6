"""Figures in words, small and large."""

from types import SimpleNamespace

import pytest

from apa_deploy.records.benchmark import Interval
from apa_deploy.report.bench import sentence
from apa_deploy.report.wording import exact, list_names

RATIOS = [
    (1.034, "takes 3.4% more time than"),
    (0.8, "takes 20.0% less time than"),
    (2.5, "takes 2.5 times as long as"),
    (171.678, "takes 172 times as long as"),
    (3.2e6, "takes 3.2e+06 times as long as"),
    (0.01, "is 100 times as fast as"),
    (float("inf"), "takes endless times as long as"),
]


@pytest.mark.parametrize(("ratio", "words"), RATIOS)
def test_a_ratio_of_any_size_is_words(ratio, words):
    interval = Interval(value=ratio, low=None, high=None)
    one = SimpleNamespace(
        name="a", baseline="b", batch=1, threads=None, ratio=interval, verdict="slower", p_value=0.001
    )
    assert sentence(one).startswith(f"a {words} b (batch 1, p = 0.001")


def test_names_are_counted_and_never_cut():
    names = [f"stem.{i}" for i in range(9)]
    assert list_names(names) == "stem.0, stem.1, stem.2 and 6 more"
    assert list_names(names[:3]) == "stem.0, stem.1, stem.2"


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.999, "0.999"), (2.08e-6, "2.1e-06"), (0.0, "0"), (1.5, "1.5"), (0.0995, "1.0e-01"), (2e7, "2.0e+07")],
)
def test_a_limit_keeps_the_digits_that_make_it(value, words):
    assert exact(value) == words
