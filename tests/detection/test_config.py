"""Configs are read as data: what they say, how bases merge, and what is refused."""

import pytest

from apa_deploy.detection.config import DetectorConfigError, Unread, parse_config, read_detector_config, value_at

SAID = [
    ("a = 1", {"a": 1}),
    ("a = dict(b=[1, (2, -3.5)], c=None, d='x')", {"a": {"b": [1, (2, -3.5)], "c": None, "d": "x"}}),
    ("n = 4\na = {'b': n, 1: n + 1}", {"n": 4, "a": {"b": 4, "1": 5}}),
    ("root = 'data/'\na = root + 'x'", {"root": "data/", "a": "data/x"}),
    ("b = dict(x=1)\na = dict(**b, y=2)", {"b": {"x": 1}, "a": {"x": 1, "y": 2}}),
    ("import os\ndef f(): pass\na = tuple([1, 2])", {"a": (1, 2)}),
]


@pytest.mark.parametrize(("text", "said"), SAID)
def test_says(text, said):
    assert parse_config(text, "config") == said


NOT_RUN = ["a = open('x', 'w')", "a = __import__('os').system('true')", "a = [i for i in 'ab']", "a = 9 ** 9 ** 9"]


@pytest.mark.parametrize("text", NOT_RUN)
def test_runs_nothing(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = parse_config(text, "config")
    assert isinstance(found["a"], Unread)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DetectorConfigError, match="line 1"):
        value_at(found, "a")


def test_names_that_double_one_another_stay_small():
    text = "a = [1, 2]\n" + "a = [a, a]\n" * 60
    assert len(str(parse_config(text, "config"))) < 10_000_000  # not 2^60


def test_bases_merge_as_in_mmengine(tmp_path):
    folder = tmp_path / "configs"
    (folder / "_base_").mkdir(parents=True)
    (folder / "mine").mkdir()
    (folder / "_base_" / "model.py").write_text("model = dict(a=dict(x=1, y=2), b=dict(z=3), c=[1])\n")
    (folder / "mine" / "one.py").write_text(
        "_base_ = ['../_base_/model.py']\n"
        "model = dict(a=dict(x=9), b=dict(_delete_=True, w=1), c=[2, 3], d={{_base_.model.b.z}})\n"
    )
    wanted = {"a": {"x": 9, "y": 2}, "b": {"w": 1}, "c": [2, 3], "d": 3}
    assert read_detector_config(folder / "mine" / "one.py") == {"model": wanted}


REFUSED = [
    ("_base_ = '../outside.py'", "outside"),
    ("_base_ = 'missing.py'", "^missing.py: No such file or directory; wanted a readable config. Check the path.$"),
    ("_base_ = '.'", "^mine: a folder; wanted a readable config. Check the path.$"),
    ("_base_ = 'config.py'", "circle"),
    ("a = (", "not readable"),
    ("with read_base():\n    from x import *", "read_base"),
    ("_base_ = f('x')", "_base_"),
]


@pytest.mark.parametrize(("text", "saw"), REFUSED)
def test_refuses(text, saw, tmp_path):
    path = tmp_path / "mine" / "config.py"
    path.parent.mkdir()
    path.write_text(text)
    (tmp_path / "outside.py").write_text("a = 1")
    with pytest.raises(DetectorConfigError, match=saw):
        read_detector_config(path)
