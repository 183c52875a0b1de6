"""Accuracy counted by hand, and the groups of the long tail."""

import numpy as np
import pytest

from apa_deploy.errors import InputError
from apa_deploy.verification.accuracy import accuracies

# Seven classes; the true one of sample i is i. Ranks of the true class: 0, 1, 4, 5, 0, 0 and NaN.
SCORES = np.zeros((7, 7))
SCORES[0, 0] = 1
SCORES[1, [1, 0]] = 1, 2
SCORES[2, [0, 1, 3, 4]] = 1
SCORES[3, [0, 1, 2, 4, 5]] = 1
SCORES[4, 4] = 1
SCORES[5, 5] = 1
SCORES[6] = np.nan
LABELS = np.arange(7)


def test_top_1_and_top_5():
    (all_,) = accuracies("r", SCORES, LABELS, None)
    assert (all_.samples, all_.top1, all_.top5) == (7, 3 / 7, 5 / 7)


def test_groups():
    counts = [101, 100, 20, 19, 1000, 0, 0]
    found = {a.group: a for a in accuracies("r", SCORES, LABELS, counts)}
    assert {g: a.samples for g, a in found.items()} == {"all": 7, "many": 2, "medium": 2, "few": 3}
    assert {g: a.top1 for g, a in found.items() if g != "all"} == {"many": 1.0, "medium": 0.0, "few": 1 / 3}
    assert {g: a.top5 for g, a in found.items() if g != "all"} == {"many": 1.0, "medium": 1.0, "few": 1 / 3}


def test_five_classes_have_no_top_5():
    (all_,) = accuracies("r", np.eye(5), np.arange(5), None)
    assert (all_.top1, all_.top5) == (1.0, None)


def test_of_equal_scores_the_first_wins_as_in_argmax():
    labels, scores = np.array([0, 1]), np.ones((2, 3))
    (all_,) = accuracies("r", scores, labels, None)
    assert all_.top1 == (scores.argmax(1) == labels).mean() == 0.5


@pytest.mark.parametrize("label", [-1, 7])
def test_a_label_that_is_no_class(label):
    with pytest.raises(InputError, match="classes 0 to 6"):
        accuracies("r", SCORES, np.array([0, label, 0, 0, 0, 0, 0]), None)
