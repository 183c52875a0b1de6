"""A wheel of this checkout, and plain environments that have nothing but it and its dependencies."""

import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel's path; what the install has compiled is not compiled again."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


class Installed:
    """The wheel in a fresh virtual environment, used from a folder outside the checkout."""

    def __init__(self, python, wheel, folder):
        self.folder, self.wheel = folder, wheel
        run(python, "-m", "venv", folder / "venv")
        self.bin = folder / "venv" / "bin"
        self.pip("install", "--no-compile", "--constraint", ROOT / "constraints.txt", wheel)

    def pip(self, *arguments):
        run(self.bin / "python", *PIP, *arguments)

    def run(self, program, *arguments, overlay=None):
        """(exit code, stdout, stderr) of a program of the environment, with the packages of `overlay`."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        if overlay:
            environment["PYTHONPATH"] = str(overlay)
        command = [str(self.bin / program), *map(str, arguments)]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def overlay(self, extra):
        """A folder with the packages that `extra` brings, and what these need, beside the environment."""
        target = self.folder / "overlays" / extra
        if not target.exists():
            wanted = requirements(self.wheel, extra)
            constraints = ("--constraint", ROOT / "constraints.txt")
            self.pip("install", "--no-compile", "--target", target, *constraints, *wanted)
        return target


def requirements(wheel, extra):
    """What the wheel's metadata wants for one extra, those of nested extras included."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist")
    found = []
    for one in map(Requirement, lines):
        if not one.marker or not one.marker.evaluate({"extra": extra}) or one.marker.evaluate({"extra": ""}):
            continue
        if one.name == "apa-deploy":
            found += [more for nested in one.extras for more in requirements(wheel, nested)]
        else:
            one.marker = None
            found.append(str(one))
    return found


def python_of(version):
    """An interpreter of this version, or None."""
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python{version}"))
    for candidate in filter(None, [shutil.which(f"python{version}"), *pyenv]):
        if subprocess.run([candidate, "-c", "import ensurepip"], capture_output=True).returncode == 0:
            return candidate
    return None


@pytest.fixture(scope="session")
def plain(wheel, tmp_path_factory):
    return Installed(sys.executable, wheel, tmp_path_factory.mktemp("plain"))
