"""What users report, word for word: each message finds its cause and its command."""

import re
import tomllib
from pathlib import Path

import pytest

from apa_deploy.doctor.known_errors import explained, known_errors

REPORTS = tomllib.loads(Path(__file__).with_name("reported_errors.toml").read_text(encoding="utf-8"))["report"]


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report["thread"])
def test_reported(report):
    first = explained(report["message"])[0]
    assert first.name == report["error"]
    answer = f"{first.cause} {first.do}"
    assert not [words for words in report["answer"] if words not in answer], answer


def test_every_error_of_the_table_is_reported():
    assert {row.name for row in known_errors()} == {report["error"] for report in REPORTS}


def test_no_answer_leaves_a_gap():
    for report in REPORTS:
        for one in explained(report["message"]):
            assert not re.search(r"[{}]|  ", one.cause + one.do)


def test_a_log_with_two_errors_gets_both_answers():
    two = {"driver too old", "engine for another GPU"}
    log = "\n".join(report["message"] for report in REPORTS if report["error"] in two)
    assert {one.name for one in explained(log)} == two


@pytest.mark.parametrize(
    "text", ["", "it does not work", "Segmentation fault (core dumped)", "all results are fine"]
)
def test_nothing_is_made_up(text):
    assert explained(text) == []
