"""plugins/fetch: what is given is used, what is fetched is announced and checked, or forbidden."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

FETCH = Path(__file__).resolve().parents[1] / "fetch"
sys.path.insert(0, str(FETCH))

import common  # noqa: E402
import onnxruntime_headers as headers  # noqa: E402


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("APA_FETCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ONNXRUNTIME_ROOT", raising=False)
    monkeypatch.delenv("APA_NO_FETCH", raising=False)


@pytest.mark.parametrize("folder", ["ensurepip/_bundled", "debian"])
def test_the_pip_of_ensurepip_serves_where_there_is_no_other(tmp_path, monkeypatch, folder):
    """As in an isolated build of an environment that is not activated, on Debian too."""
    wheel = tmp_path / folder / "pip-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    monkeypatch.setattr(common.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    monkeypatch.setattr(common.shutil, "which", lambda _: None)
    monkeypatch.setattr(common.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(common, "DEBIAN_WHEELS", tmp_path / "debian")
    assert common._pip() == [sys.executable, f"{wheel}/pip"]
    wheel.unlink()
    with pytest.raises(common.FetchError, match="no pip found"):
        common._pip()


@pytest.mark.parametrize("below", ["", "include", "include/onnxruntime", "include/onnxruntime/core/session"])
def test_a_given_root_is_used(tmp_path, monkeypatch, below):
    folder = tmp_path / "root" / below
    folder.mkdir(parents=True)
    (folder / headers.HEADER).touch()
    monkeypatch.setenv("ONNXRUNTIME_ROOT", str(tmp_path / "root"))
    assert headers.find() == folder


def test_a_wrong_root_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("ONNXRUNTIME_ROOT", str(tmp_path))
    with pytest.raises(common.FetchError, match="ONNXRUNTIME_ROOT="):
        headers.find()


def test_fetching_can_be_forbidden(monkeypatch, capsys):
    if Path("/usr/include/onnxruntime", headers.HEADER).is_file():
        pytest.skip("this system has the headers installed: there is nothing to fetch")
    monkeypatch.setenv("APA_NO_FETCH", "1")
    assert common.report(headers.find) == 3
    said = capsys.readouterr()
    assert "APA_NO_FETCH" in said.err and "ONNXRUNTIME_ROOT" in said.err and not said.out


def _debian():
    return Path("/etc/debian_version").is_file() and platform.freedesktop_os_release()["ID"] == "debian"


@pytest.mark.skipif(not _debian(), reason="the headers come from Debian's packages; this is another system")
def test_the_headers_are_fetched_and_announced(tmp_path):
    done = subprocess.run([sys.executable, FETCH / "onnxruntime_headers.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip(), headers.HEADER).is_file()
    if Path(done.stdout.strip()).is_relative_to(tmp_path):
        assert "fetching" in done.stderr and headers.PACKAGE in done.stderr
        assert [p.name for p in (tmp_path / "cache").iterdir()] == [f"{headers.PACKAGE}-{headers.VERSION}"]


def test_another_checksum_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"something else")
    with pytest.raises(common.FetchError, match="pinned"):
        common.checked(file, headers.SHA256)


def test_what_fails_leaves_nothing(tmp_path):
    def make(folder):
        (folder / "half").touch()
        raise common.FetchError("no")

    with pytest.raises(common.FetchError):
        common.kept("thing", make)
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_was_fetched_is_kept():
    made = []
    first = common.kept("thing", made.append)
    assert (common.kept("thing", made.append), len(made)) == (first, 1)


def test_two_builds_at_once(tmp_path):
    """The other build finishes while this one fetches: its folder is taken."""

    def make(folder):
        (folder / "mine").touch()
        other = tmp_path / "cache/thing"
        other.mkdir()
        (other / "theirs").touch()

    assert [p.name for p in common.kept("thing", make).iterdir()] == ["theirs"]
