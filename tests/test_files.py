"""apa_deploy.files: whole files or none, and a clear message for every way a disk can refuse."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from apa_deploy.files import OutputError, SourceError, refuse_existing, replace_file, sha256, stage_files


def test_moves_together_or_not_at_all(tmp_path):
    names = [tmp_path / "a.bin", tmp_path / "b.bin"]
    with stage_files(names) as folder:
        for path in names:
            (folder / path.name).write_text("new")
        assert not any(path.exists() for path in names)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "b.bin"]
    with pytest.raises(RuntimeError), stage_files(names, force=True) as folder:
        (folder / "a.bin").write_text("half")
        raise RuntimeError
    assert [path.read_text() for path in names] == ["new", "new"]
    assert len(list(tmp_path.iterdir())) == 2


def test_interrupt_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), replace_file(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_folder_replaces_folder(tmp_path):
    target = tmp_path / "repository"
    for content in ("one", "two"):
        with replace_file(target, force=True) as temporary:
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
    with pytest.raises(OutputError, match=advice), replace_file(tmp_path / "a"):
        raise OSError(code, os.strerror(code))


def test_read_only_file_is_kept(tmp_path):
    path = tmp_path / "a"
    path.write_text("precious")
    path.chmod(0o444)
    with pytest.raises(OutputError, match="is read-only"):
        refuse_existing(path, force=True)


@pytest.mark.parametrize("force", [False, True])
def test_pipes_and_devices_are_not_replaced(tmp_path, force):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/null")):
        with pytest.raises(OutputError, match="a pipe or a device"):
            refuse_existing(path, force=force)


def test_missing_and_unwritable_folder(tmp_path):
    with pytest.raises(OutputError, match="create the folder"), replace_file(tmp_path / "none" / "a"):
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
        with replace_file(path):
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
        with pytest.raises(OutputError, match="free some space"), replace_file(tmp_path / "a") as temporary:
            temporary.write_bytes(bytes(1 << 20))
        assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")


HOLDER = (
    "import sys, time, pathlib\n"
    "from apa_deploy.files import replace_file\n"
    "with replace_file(pathlib.Path(sys.argv[1])) as temporary:\n"
    "    temporary.write_text('half')\n"
    "    print('writing', flush=True)\n"
    "    time.sleep(60)\n"
)


@pytest.fixture
def holder(tmp_path):
    """Another process in the middle of writing `tmp_path / "a.bin"`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "a.bin")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.communicate()


def test_two_writers_of_one_output(tmp_path, holder):
    with pytest.raises(OutputError, match="another process is writing it"), replace_file(tmp_path / "a.bin"):
        pass
    with replace_file(tmp_path / "a.txt") as temporary:  # the same stem, another output
        temporary.touch()
    assert holder.poll() is None and (tmp_path / "a.txt").exists()


def test_force_waits_for_the_other_writer(tmp_path, holder, capfd):
    threading.Timer(0.3, holder.kill).start()
    with replace_file(tmp_path / "a.bin", force=True) as temporary:
        temporary.write_text("mine")
    assert "waiting for another process" in capfd.readouterr().err
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.bin", "mine")]


def test_what_a_killed_writer_left_is_removed(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert list(tmp_path.glob(".a.*.tmp"))
    with replace_file(tmp_path / "a.bin") as temporary:
        assert not list(temporary.parent.iterdir())
        temporary.write_text("mine")
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_an_output_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(OutputError, match="exists already"), replace_file(tmp_path / "a") as temporary:
        temporary.write_text("mine")
        (tmp_path / "a").write_text("theirs")
    assert (tmp_path / "a").read_text() == "theirs" and len(list(tmp_path.iterdir())) == 1


def test_a_name_as_long_as_the_file_system_takes(tmp_path):
    path = tmp_path / ("n" * 251 + ".bin")
    with replace_file(path) as temporary:
        temporary.touch()
    assert path.exists()


@pytest.mark.parametrize("what", ["folder", "pipe", "device", "absent", "link to a device"])
def test_reads_regular_files_only(tmp_path, what):
    path = tmp_path / "a"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "link to a device":
        path.symlink_to("/dev/zero")
    elif what == "device":
        path = Path("/dev/zero")
    with pytest.raises(SourceError):
        sha256(path)
