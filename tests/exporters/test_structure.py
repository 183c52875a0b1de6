"""How the exporters hang together: no import circles, options with one owner, scripts that find their modules."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from apa_exporters.options import all_flags
from apa_exporters.registry import TARGETS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"apa_deploy": ROOT / "apa_deploy", "apa_exporters": ROOT / "exporters/apa_exporters"}


def modules():
    """Dotted name -> file, without what is carried to another machine as text."""
    found = {}
    for name, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = (name, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(name, path, known):
    """What a module imports as it is imported itself: at its top level, beyond `if TYPE_CHECKING`."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                yield whole if whole in known else source


def test_no_import_circles():
    known = modules()
    graph = {name: {one for one in imports(name, path, known) if one in known} for name, path in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_an_option_is_declared_by_one_class_of_a_target():
    """`--batch` alone has several: a size for files, a profile for engines."""
    owners = {}
    for target in TARGETS.values():
        for flag, _ in all_flags(target.options).values():
            if not flag.shared:
                owners.setdefault(flag.name, set()).add(id(flag.keywords.get("type")))
    assert {name for name, types in owners.items() if len(types) > 1} == set()


@pytest.mark.parametrize("folder", ["benchmarks", "tools"])
def test_scripts_leave_the_search_path_alone(folder):
    changing = {path.name for path in (ROOT / folder).rglob("*.py") if "sys.path" in path.read_text()}
    assert changing - {"serving_faults.py"} == set()  # that shares modules with tests/serving


def test_one_module_ends_and_judges_child_processes():
    """Elsewhere a signal's name and a group's end are not spelled: the server's own workers are apart."""
    spelled = ("signal.Signals(", "os.killpg(")
    files = [path for folder in PACKAGES.values() for path in folder.rglob("*.py")]
    homes = {path.stem for path in files if any(text in path.read_text() for text in spelled)}
    assert homes - {"child"} == {"child_process"}
