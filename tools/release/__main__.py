"""Build a release, describe it, and verify it in a clean environment: docs/releases.md.

python -m tools.release [-o build/release] [--no-table]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import apa_deploy
from apa_deploy import native
from tools.cached_packages import cached_packages, with_packages
from tools.release.table import ROOT, TABLES, changes_of

LIBRARIES = (*(path.name for path in native.LIBRARIES), "apa_aot.ptx")
DIGITS = ROOT / "examples" / "digits" / "digits.pth"
# The tool looks at another environment: its own packages must not be seen there, as they would be by PYTHONPATH.
_DESCRIBE = """
import runpy, site, sys
site.addsitedir(sys.argv.pop(1))
runpy.run_module("cyclonedx_py", run_name="__main__")
"""


class ReleaseError(Exception):
    """A step of the release failed. The message says which, and what to do."""


def run(*command: object, **options: object) -> str:
    """What a command prints.

    Raises:
        ReleaseError: it fails.
    """
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise ReleaseError(f"{' '.join(map(str, command[:6]))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def step(text: str) -> None:
    """Say what is done now."""
    print(f"release: {text}", file=sys.stderr, flush=True)


def build(folder: Path, packages: Path) -> tuple[Path, Path]:
    """(wheel with its manylinux tag, source distribution) in `folder`."""
    step("source distribution")
    run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, ROOT, env=with_packages(packages))
    step("wheel; compiles the libraries if they have changed")
    with tempfile.TemporaryDirectory() as work:
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", work, ROOT)
        (built,) = Path(work).glob("*.whl")
        absent = missing_libraries(built)
        if absent:
            raise ReleaseError(f"the wheel lacks {', '.join(absent)}: see what `pip wheel -v .` says of them")
        shown = "".join(run(sys.executable, "-m", "auditwheel", "show", built).split("\n"))
        policy = re.search(r'platform tag: *"(manylinux_[^"]+)"', shown)
        if policy is None:
            raise ReleaseError(f"{built.name} has no manylinux tag. Build on Debian 12 or in a manylinux image")
        # the libraries need nothing that a repair would put into the wheel: its tag alone changes
        tag = ("tags", "--remove", "--platform-tag", policy[1])
        run(sys.executable, "-m", "wheel", *tag, built, env=with_packages(packages))
        (tagged,) = Path(work).glob("*.whl")
        shutil.move(tagged, folder)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


def missing_libraries(wheel: Path) -> list[str]:
    """The native files that a release must have and this wheel has not."""
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name).name for name in archive.namelist()}
    return [name for name in LIBRARIES if name not in names]


def install_clean(wheel: Path, work: Path) -> Path:
    """The Python of a fresh environment with the wheel and what it needs, by constraints.txt."""
    step("clean environment")
    python = work / "environment" / "bin" / "python"
    run(sys.executable, "-m", "venv", work / "environment")
    constraints = ("--constraint", ROOT / "constraints.txt")
    run(python, "-m", "pip", "install", "--quiet", "--no-compile", *constraints, wheel, cwd=work)
    return python


def verify(python: Path, work: Path) -> None:
    """Export in two formats, verify both files, and find the libraries, with nothing of the checkout."""
    step("exports and verifies in the clean environment")
    verbs = python.parent
    for name, options in {"plain": (), "custom": ("--format", "onnx-custom")}.items():
        run(verbs / "apa-export", DIGITS, *options, "-o", f"{name}.onnx", cwd=work)
    run(verbs / "apa-verify", DIGITS, "plain.onnx", "custom.onnx", cwd=work)
    check = "import apa_deploy as a; print(a.__version__, a.ort_library(), a.trt_plugin_library())"
    version, *libraries = run(python, "-c", check, cwd=work).split()
    if version != apa_deploy.__version__ or not all(path.startswith(str(work)) for path in libraries):
        raise ReleaseError(f"the clean environment has {version} and {libraries}")


def describe(python: Path, packages: Path, target: Path) -> None:
    """Write the SBOM of the environment: the wheel, and all that pip brought with it."""
    step("SBOM")
    options = ("--output-reproducible", "--pyproject", ROOT / "pyproject.toml", "--output-file", target)
    run(sys.executable, "-c", _DESCRIBE, packages, "environment", *options, python)
    document = json.loads(target.read_text(encoding="utf-8"))
    document["metadata"]["component"]["version"] = apa_deploy.__version__  # pyproject.toml has none
    for component in document["components"]:  # where the wheel lay while it was installed concerns nobody
        links = component.get("externalReferences", [])
        component["externalReferences"] = [link for link in links if not link["url"].startswith("file:")]
    target.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def write_checksums(folder: Path) -> None:
    """SHA256SUMS over every other file of the folder."""
    files = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def release(output: Path, table: bool) -> None:
    """All steps in their order.

    Raises:
        ReleaseError: one of them fails.
    """
    version = apa_deploy.__version__
    if not changes_of(version):
        raise ReleaseError(f"CHANGELOG.md has no section '## {version}': write it for those who upgrade")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    packages = cached_packages("release", Path(__file__).with_name("requirements.txt"))
    wheel, _ = build(output, packages)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        python = install_clean(wheel, work)
        describe(python, packages, output / f"apa-deploy-{version}.cdx.json")
        verify(python, work)
    if table:
        step("table: sizes, errors, ratios, launches; some minutes")
        done = subprocess.run([sys.executable, "-m", "tools.release.table", output], cwd=ROOT, check=False)
        if done.returncode:
            raise ReleaseError("the table is worse than the last release's")
    write_checksums(output)
    print(f"{output}: release {version} is good")
    if table:
        print(f"to keep its table: cp {output / 'table.json'} {TABLES / version}.json")


def main() -> int:
    """Make a release: 1 where a step fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build" / "release")
    parser.add_argument("--no-table", action="store_true", help="leave out the measurements")
    options = parser.parse_args()
    try:
        release(options.output.resolve(), not options.no_table)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
