"""docs/recipes: every python block runs, every console block prints what it shows.

A block that `needs` a package which is not a dependency of ours runs where that is installed.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.md"))
BLOCK = re.compile(r"^```(python|console)(?: needs=(\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_recipe(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    blocks = BLOCK.findall(recipe.read_text())
    assert blocks
    namespace = {"__name__": recipe.stem}
    for language, package, text in blocks:
        if package and not importlib.util.find_spec(package):
            continue
        if language == "python":
            exec(compile(text, recipe.name, "exec"), namespace)
        else:
            check_console(text)


def check_console(text):
    """`$ command`, then lines that its output must have in any order; `...` stands for anything."""
    for command, *wanted in (part.splitlines() for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]):
        bin_ = Path(sys.executable).parent
        environment = os.environ | {
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "PATTERNS": str(ROOT / "integrations" / "polygraphy-pattern"),
        }
        done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        for line in wanted:
            pattern = ".*".join(re.escape(piece) for piece in line.split("..."))
            assert re.search(pattern, said), f"{command}: {line!r} is not in\n{said}"
