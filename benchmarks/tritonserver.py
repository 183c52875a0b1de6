"""A real tritonserver, of the `nvidia-pytriton` wheel, serving a repository of `apa-export --format triton`.

The wheel wants Python 3.11 or 3.12 and an environment of its own, which `environment()` makes:

    python -m benchmarks.tritonserver      # prints where it is
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import platformdirs

PATIENCE = 60  # seconds
_PACKAGES = Path(__file__).with_suffix(".txt")
_MODELS = Path(__file__).parents[1] / "docker" / "triton-requirements.txt"
_VERSIONS = ("3.11", "3.12")
_FACTS = """
import sys, sysconfig
from pathlib import Path
library = Path(sysconfig.get_config_var("LIBDIR") or "/", sysconfig.get_config_var("INSTSONAME") or "none")
print("%d.%d" % sys.version_info[:2], sys.executable, library.is_file())
"""


class NoPythonError(RuntimeError):
    """No Python here can run the server."""


def python() -> str:
    """An interpreter that the wheel takes: of the right version, with its shared library.

    Raises:
        NoPythonError: there is none; the message says what was looked at.
    """
    names = [sys.executable, *(shutil.which(f"python{version}") or "" for version in _VERSIONS)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    seen = []
    for name in [*filter(None, names), *map(str, sorted(pyenv.glob("3.1[12]*/bin/python")))]:
        done = subprocess.run([name, "-c", _FACTS], capture_output=True, text=True, check=False)
        version, path, shared = done.stdout.split() if done.returncode == 0 else ("?", name, "False")
        if version in _VERSIONS and shared == "True":
            return path
        seen.append(f"{name} ({version}, shared library: {shared})")
    raise NoPythonError(
        f"no Python {' or '.join(_VERSIONS)} with its shared library; seen: {', '.join(seen)}. On Debian "
        "12: apt-get install python3 libpython3.11; pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.12"
    )


def environment() -> Path:
    """A virtual environment with the server, made once and kept in the user's cache.

    Raises:
        NoPythonError: no Python here can run the server.
    """
    interpreter = python()
    wanted = b"".join(path.read_bytes() for path in (_PACKAGES, _MODELS))
    key = hashlib.sha256(wanted + interpreter.encode()).hexdigest()[:12]
    venv = platformdirs.user_cache_path("apa-deploy", ensure_exists=True) / f"tritonserver-{key}"
    with venv.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (venv / "ready").exists():
            shutil.rmtree(venv, ignore_errors=True)
            subprocess.run([interpreter, "-m", "venv", "--without-pip", str(venv)], check=True)
            pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "--quiet"]
            # what the server's Python needs is the list itself: the wheel's other requirements are its client's
            subprocess.run([*pip, "--no-deps", "--no-compile", "--requirement", str(_PACKAGES)], check=True)
            (venv / "ready").touch()
    return venv


class TritonServer:
    """The server of a repository, by the repository's own `start`; a context that ends it with SIGTERM.

    Args:
        repository: what `apa-export --format triton` wrote.
        work: a folder for the server's parts and its log.
        options: further ones for tritonserver.
        stand_ins: a `model.py` by the name of a backend that is absent, to run its models instead.
    """

    def __init__(
        self, venv: Path, repository: Path, work: Path, *options: str, stand_ins: dict[str, Path] | None = None
    ) -> None:
        self._venv, self._repository, self._work = venv.absolute(), repository.absolute(), work.absolute()
        self._options, self._stand_ins = options, stand_ins or {}
        ports = _free_ports(3)
        self.http, self.grpc, self.metrics = (f"127.0.0.1:{port}" for port in ports)
        self._ports = dict(zip(("http", "grpc", "metrics"), ports, strict=True))

    def __enter__(self) -> TritonServer:
        purelib = Path(self._ask("import sysconfig; print(sysconfig.get_path('purelib'))"))
        installed = purelib / "pytriton" / "tritonserver"
        self._work.mkdir(parents=True, exist_ok=True)
        backends = self._backends(installed)
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        shared = self._ask("import sysconfig; print(sysconfig.get_config_var('LIBDIR'))")
        kept["LD_LIBRARY_PATH"] = f"{purelib}/nvidia_pytriton.libs:{shared}"
        kept["PATH"] = f"{installed}/bin:{self._venv}/bin:{os.environ['PATH']}"
        ports = [f"--{name}-port={port}" for name, port in self._ports.items()]
        command = [str(self._repository / "start"), f"--backend-directory={backends}", *ports, *self._options]
        with (self._work / "log").open("wb") as log:
            self.process = subprocess.Popen(command, env=kept, stdout=log, stderr=log)
        self._wait_until_ready()
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def text(self) -> str:
        """The log so far."""
        return (self._work / "log").read_text(errors="replace")

    def _ask(self, code: str) -> str:
        command = [str(self._venv / "bin" / "python"), "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def _backends(self, installed: Path) -> Path:
        """The wheel keeps the parts of the Python backend apart; the server wants them in one folder."""
        version = self._ask("import sys; print('%d.%d' % sys.version_info[:2])")
        folder = self._work / "backends" / "python"
        folder.mkdir(parents=True)
        parts = [part for part in (installed / "backends" / "python").iterdir() if part.is_file()]
        for part in (*parts, installed / "python_backend_stubs" / version / "triton_python_backend_stub"):
            shutil.copy2(part, folder)
        libraries = self._work / "nvidia_pytriton.libs"  # the backend looks for them beside its own folder
        libraries.symlink_to(installed.parents[1] / "nvidia_pytriton.libs")
        for name, model in self._stand_ins.items():
            (folder.parent / name).mkdir()
            shutil.copyfile(model, folder.parent / name / "model.py")
        return folder.parent

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://{self.http}/v2/health/ready", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        self.process.kill()
        raise RuntimeError(f"tritonserver did not start: {self.text()[-4000:]}")


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that are free now; all are held until all are known."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


if __name__ == "__main__":
    print(environment())
