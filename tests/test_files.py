"""apa_deploy.files: whole files or none, and a clear message for every way a disk can refuse."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from apa_deploy.files import OutputError, refuse_existing, replaced, sha256, staged


def test_moves_together_or_not_at_all(tmp_path):
    names = [tmp_path / "a.bin", tmp_path / "b.bin"]
    with staged(names) as folder:
        for path in names:
            (folder / path.name).write_text("new")
        assert not any(path.exists() for path in names)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "b.bin"]
    with pytest.raises(RuntimeError), staged(names, force=True) as folder:
        (folder / "a.bin").write_text("half")
        raise RuntimeError
    assert [path.read_text() for path in names] == ["new", "new"]
    assert len(list(tmp_path.iterdir())) == 2


def test_interrupt_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), replaced(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_folder_replaces_folder(tmp_path):
    target = tmp_path / "repository"
    for content in ("one", "two"):
        with replaced(target, force=True) as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    assert [p.name for p in target.iterdir()] == ["two"]


REFUSALS = [
    (errno.ENOSPC, "free some space"),
    (errno.EACCES, "may write to"),
    (errno.EROFS, "read-only"),
    (errno.EFBIG, "ulimit -f"),
]


@pytest.mark.parametrize(("code", "advice"), REFUSALS)
def test_advice_by_the_systems_reason(code, advice, tmp_path):
    with pytest.raises(OutputError, match=advice), replaced(tmp_path / "a"):
        raise OSError(code, os.strerror(code))


def test_read_only_file_is_kept(tmp_path):
    path = tmp_path / "a"
    path.write_text("precious")
    path.chmod(0o444)
    with pytest.raises(OutputError, match="is read-only"):
        refuse_existing(path, force=True)


def test_missing_and_unwritable_folder(tmp_path):
    with pytest.raises(OutputError, match="create the folder"), replaced(tmp_path / "none" / "a"):
        pass
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    tmp_path.chmod(0o755)
    if os.geteuid() == 0:  # root may write anywhere: look at it with another user's eyes
        pytest.importorskip("pwd")
        outcome = _as_nobody(lambda: _try(closed / "a"))
    else:
        outcome = _try(closed / "a")
    assert "may write to" in outcome


def _try(path: Path) -> str:
    try:
        with replaced(path):
            return "written"
    except OutputError as error:
        return str(error)


def _as_nobody(action):
    os.seteuid(65534)
    try:
        return action()
    finally:
        os.seteuid(0)


def test_full_disk(tmp_path):
    """A file system of 64 KiB where mounting is allowed; the reason is the kernel's own."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here; tests/cli/test_disk.py covers the file-size limit")
    try:
        with pytest.raises(OutputError, match="free some space"), replaced(tmp_path / "a") as temporary:
            temporary.write_bytes(bytes(1 << 20))
        assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")
