"""A wheel of this checkout, and plain environments that have nothing but it and its dependencies."""

import email
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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

    def overlay(self, extra, by):
        """A folder with the packages that `extra` brings, and what these need, beside the environment.

        `by`: "pip", which resolves and fetches them, or "links" to those that the tests run with: what the wheel's
        metadata leaves out is in neither.
        """
        target = self.folder / "overlays" / by / extra
        if target.exists():
            return target
        target.mkdir(parents=True)
        wanted = requirements(self.wheel, extra)
        if by == "pip":
            for one in wanted:
                one.marker = None
            constraints = ("--constraint", ROOT / "constraints.txt")
            self.pip("install", "--no-compile", "--target", target, *constraints, *map(str, wanted))
        else:
            for name in closure(wanted) - closure(requirements(self.wheel, "")):
                link_files(distribution(name), target)
        return target


def requirements(wheel, extra):
    """What the wheel's metadata wants for one extra, those of nested extras included; "": without any."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist")
    found = []
    for one in map(Requirement, lines):
        plain = not one.marker or one.marker.evaluate({"extra": ""})
        if plain == bool(extra) or (not plain and not one.marker.evaluate({"extra": extra})):
            continue
        found += [r for e in one.extras for r in requirements(wheel, e)] if one.name == "apa-deploy" else [one]
    return found


def closure(wanted):
    """The names of the distributions that requirements bring, of those that are installed here."""
    found, left = set(), list(wanted)
    while left:
        one = left.pop()
        try:
            lines = distribution(one.name).requires or []
        except PackageNotFoundError:  # as of torch's CUDA build beside the CPU build
            continue
        found.add(canonicalize_name(one.name))
        for more in map(Requirement, lines):
            known = canonicalize_name(more.name) in found and not more.extras
            if not known and (
                not more.marker or any(more.marker.evaluate({"extra": e}) for e in ("", *one.extras))
            ):
                left.append(more)
    return found


def link_files(one, target):
    """Show the files of an installed distribution in the folder `target`."""
    for file in one.files:
        if not {"..", "__pycache__"} & set(file.parts):
            link = target / file
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)  # some distributions share the __init__.py of a package
            link.symlink_to(one.locate_file(file))


def python_of(version):
    """An interpreter of this version, or None."""
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python{version}"))
    for candidate in filter(None, [shutil.which(f"python{version}"), *pyenv]):
        if subprocess.run([candidate, "-c", "import ensurepip"], capture_output=True).returncode == 0:
            return candidate
    return None
