"""With only the plain dependencies every verb starts, and names the extra that it lacks. More: tests/wheel."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from apa_deploy.require import PACKAGES

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits" / "digits.pth"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERBS = PROJECT["scripts"]
FOLDERS = ("apa_deploy", "exporters/apa_exporters")
PLAIN = {re.match(r"[\w-]+", line)[0].lower().replace("_", "-") for line in PROJECT["dependencies"]}
TRITON = {"triton_python_backend_utils", "apa_pictures"}  # Triton's own, and what a repository of ours carries
OURS = {"apa_deploy", "apa_exporters", "apa_target", *TRITON}
BROUGHT = {"google": "protobuf"}  # by onnx


HEAVY = {"torch", "onnx", "onnxruntime"}


@pytest.fixture
def run(tmp_path):
    """A verb in a folder of its own, without any package of an extra: (exit code, stdout, stderr).

    With `end`, that is run after it.
    """
    paths = [str(Path(__file__).parent / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]

    def run_verb(verb, *arguments, end="pass"):
        module, _, function = VERBS[verb].partition(":")
        code = f"import sys\nfrom {module} import {function}\ntry:\n    sys.exit({function}())\nfinally:\n    {end}"
        command = [sys.executable, "-c", code, *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    return run_verb


def imported_packages():
    """Every module that a file of ours imports from elsewhere, with the file."""
    for path in (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.partition(".")[0], path
            elif isinstance(node, ast.Import):
                yield from ((alias.name.partition(".")[0], path) for alias in node.names)


def test_every_import_is_plain_or_listed():
    own = OURS | {path.stem for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    distributions = packages_distributions()
    found = {name: path for name, path in imported_packages() if name not in sys.stdlib_module_names}
    assert {"torch", "tritonclient", "matplotlib"} <= set(found)  # the search finds both kinds
    plain = {name for name in found if {d.lower().replace("_", "-") for d in distributions.get(name, ())} & PLAIN}
    assert not {n: p for n, p in found.items() if n not in own | plain | set(PACKAGES) | set(BROUGHT)}


@pytest.mark.parametrize("module", PACKAGES)
def test_its_extra_brings_each_package(module):
    extra = re.fullmatch(r"pip install 'apa-deploy\[(\w+)\]'", PACKAGES[module].add)
    name = (PACKAGES[module].distribution or module).partition("-")[0]
    lines = PROJECT["optional-dependencies"][extra[1]] if extra else [PACKAGES[module].add.split("'")[1]]
    assert any(line.replace("-", "_").startswith(name.replace("-", "_")) for line in lines)


@pytest.mark.parametrize("verb", VERBS)
def test_verb_prints_its_help(verb, run):
    code, stdout, stderr = run(verb, "--help")
    assert (code, stdout.split()[:2], stderr) == (0, ["usage:", verb], "")


@pytest.mark.parametrize("argument", ["--help", "--hlep"])
@pytest.mark.parametrize("verb", sorted(VERBS))
def test_arguments_are_parsed_before_heavy_packages_are_imported(verb, argument, run):
    code, stdout, _ = run(verb, argument, end=f"print('imported:', {HEAVY} & set(sys.modules))")
    assert (code, stdout.splitlines()[-1]) == (0 if argument == "--help" else 2, "imported: set()")


@pytest.mark.parametrize(
    ("extra", "verb", "arguments"),
    [
        ("serve", "apa-serve", ["model.onnx"]),
        ("serve", "apa-export", [DIGITS, "--format", "triton"]),
        ("openvino", "apa-export", [DIGITS, "--format", "openvino"]),
        ("rtx", "apa-export", [DIGITS, "--format", "trt-rtx"]),
        ("gpu", "apa-export", [DIGITS, "--format", "trt"]),
        ("report", "apa-inspect", [DIGITS, "--report", "report.html"]),
        ("report", "apa-inspect", [DIGITS, "--plot", "plot.png"]),
        ("report", "apa-export", [DIGITS, "--report", "report.html"]),
    ],
    ids=lambda value: value if isinstance(value, str) else Path(value[-1]).name,
)
def test_lacking_extra_is_named(extra, verb, arguments, run, tmp_path):
    code, _, stderr = run(verb, *arguments)
    assert (code, f"'apa-deploy[{extra}]'" in stderr, list(tmp_path.iterdir())) == (3, True, []), stderr
