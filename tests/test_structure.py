"""The shape of the code: what imports what, how kinds of networks are told apart, one public name for one thing."""

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"apa_deploy": ROOT / "apa_deploy", "apa_exporters": ROOT / "exporters" / "apa_exporters"}
# Its options name the function that exports, which is imported when it is called: one circle for each target.
TARGETS = "apa_exporters."
# What several files must have under one name: entry points, codecs of two protocols, one operator for two runtimes.
SAME_MEANING = {
    "main",
    "encode",
    "decode",
    "values",
    "TritonPythonModel",
    "AGLU",
    "APA",
    "RoiAlign",
    "assert_parity",
}
# Scripts that run where nothing of the project is: their names are their own.
ALONE = ("on_target", "repository_files", "bundle_files", "tensorrt_rtx.execute", "tensorrt_rtx.builder")


@cache
def modules():
    """Module name -> its file and syntax tree."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = (path, ast.parse(path.read_text(encoding="utf-8")))
        assert package in found
    return found


def imported(name, node, is_package):
    """The modules of ours that an import statement names."""
    if isinstance(node, ast.Import):
        targets = [alias.name for alias in node.names]
    else:
        base = name.split(".")
        base = base[: len(base) - node.level + is_package] if node.level else []
        start = ".".join([*base, *([node.module] if node.module else [])])
        targets = [f"{start}.{a.name}" if f"{start}.{a.name}" in modules() else start for a in node.names]
    return {target for target in targets if target in modules() and target != name}


def is_for_types(node):
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def imports_of(name, *, everywhere):
    path, tree = modules()[name]
    found = set()

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                found.update(imported(name, child, path.name == "__init__.py"))
            elif everywhere or not (isinstance(child, ast.FunctionDef) or is_for_types(child)):
                visit(child)

    visit(tree)
    return found


@pytest.mark.parametrize("everywhere", [False, True], ids=["at the top of files", "inside functions too"])
def test_no_import_circles(everywhere):
    graph = {
        name: imports_of(name, everywhere=everywhere)
        for name in modules()
        if not (everywhere and name.startswith(TARGETS))
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_deploy_knows_nothing_of_the_exporters():
    mine = [name for name in modules() if name.startswith("apa_deploy")]
    assert not [
        (name, other)
        for name in mine
        for other in imports_of(name, everywhere=True)
        if other.startswith("apa_exporters")
    ]


# From the ground up: a module imports what stands in its own row or before it, at its top and inside functions.
# Of two names that fit a module the longer one counts.
LAYERS = (
    "errors files require choices progress escaping terminal child_process maths",
    "modules functional graph.node",
    "network tensors graph.sites detection.spec detection.pictures detection.rows detection.matching "
    "detection.boxes runtimes.ort_session runtimes.ort_faults runtimes.providers",
    "replace graph",
    "records",
    "native runtimes detection architectures doctor.fat_binary",
    "loading",
    "deployment parity inspection",
    "detection.gate detection.verify",
    "measure bench",
    "report",
    "serving",
    "verification testing",
    "doctor",
    "calibration",
    "cli",
)


def layer_of(module):
    fits = [
        (len(name), row)
        for row, names in enumerate(LAYERS)
        for name in names.split()
        if f"{module}.".startswith(f"apa_deploy.{name}.")
    ]
    assert fits, f"{module} stands in no layer"
    return max(fits)[1]


def test_imports_point_down():
    mine = [name for name in modules() if name.startswith("apa_deploy.")]
    assert not [
        f"{name} -> {other}"
        for name in mine
        for other in imports_of(name, everywhere=True)
        if other != "apa_deploy" and layer_of(other) > layer_of(name)
    ]


@pytest.mark.parametrize("heavy", ["torch", "onnx", "onnxruntime"])
def test_the_registry_and_the_options_import_nothing_heavy(heavy):
    names = [name for name in modules() if name.endswith("options") or name == "apa_exporters.registry"]
    names = [name for name in names if name.startswith("apa_exporters")] + ["apa_deploy.cli.model_options"]
    # what tests/docs/test_walks.py runs this in is a copy, which an editable install would not find
    mine = "[one for one in sys.meta_path if 'editable' not in getattr(one, '__module__', '')]"
    code = f"import sys; sys.meta_path[:] = {mine}; import {', '.join(names)}; sys.exit({heavy!r} in sys.modules)"
    paths = os.pathsep.join(str(folder.parent) for folder in PACKAGES.values())
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}).returncode == 0


def test_nobody_asks_for_the_kind_of_a_network():
    """What differs between kinds is a method of `Network`."""
    kinds = {"TorchNetwork", "OnnxNetwork", "ProgramNetwork", "DetectorNetwork"}
    asked = [
        f"{name}:{node.lineno}"
        for name, (_, tree) in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "type", "issubclass")
        if kinds & {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node)}
    ]
    assert asked == []


def test_kinds_of_files_are_told_by_artifact_kind():
    """Not by a suffix: what is left asks for the name of something that is written, or listed in a folder."""
    spelled = re.compile(r"suffix (==|!=|in|not in) (ONNX|ENGINE|SUFFIX\b|\"\.(onnx|engine|pt2|safetensors|xml))")
    found = [
        (name, match[0]) for name, (path, _) in modules().items() for match in spelled.finditer(path.read_text())
    ]
    assert found == [
        ("apa_deploy.runtimes.artifacts", 'suffix == ".safetensors'),
        ("apa_deploy.runtimes.artifacts", 'suffix == ".pt2'),
    ]


def test_nobody_takes_a_name_of_an_activation_apart():
    """`graph.sites.split_use` does, and `Parameters.channels` counts."""
    spelled = ('split("#")', 'partition("#")', "max(len(parameters.lambda_)", "max(len(p.lambda_)")
    found = [(name, text) for name, (path, _) in modules().items() for text in spelled if text in path.read_text()]
    assert found == []


def public_names():
    names = defaultdict(list)
    for name, (_, tree) in modules().items():
        if any(part in name for part in ALONE):
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
                names[node.name].append(name)
    return {name: homes for name, homes in names.items() if len(homes) > 1 and name not in SAME_MEANING}


def test_one_public_name_means_one_thing():
    assert public_names() == {}


# Whoever uses a module of ours: a rename that forgets one of them is seen here, before a GPU or a long test would.
USERS = ("apa_deploy", "exporters", "tests", "plugins", "benchmarks", "tools", "examples")


@cache
def names_of(module):
    """What a module binds, and its submodules; of one that imports on first use, the names of its table."""
    _, tree = modules()[module]
    bound = {name.removeprefix(f"{module}.").split(".")[0] for name in modules() if name.startswith(f"{module}.")}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.alias):
            bound.add(node.asname or node.name.split(".")[0])
    return bound | {name for _, _, name in lazy_names(module)} | {"__file__", "__name__", "__doc__", "__path__"}


def lazy_names(module):
    """(line, where it is, name) of each row of a `_LAZY` table: name -> module below this one."""
    for node in modules()[module][1].body if module in modules() else ():
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_LAZY":
            for name, home in ast.literal_eval(node.value).items():
                yield node.lineno, f"{module}.{home}", name


def uses_in(path):
    """(line, module of ours, name that is taken from it) for a whole file: imports, `module.name`, patches."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    aliases = {}
    yield from lazy_names(next((name for name, (file, _) in modules().items() if file == path), ""))
    inside = path.relative_to(ROOT).parts[0] in ("apa_deploy", "exporters")
    own = next((name for name, (file, _) in modules().items() if file == path), "") if inside else ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom) and (own or not node.level):
            base = own.split(".")[: len(own.split(".")) - node.level + (path.name == "__init__.py")]
            start = ".".join([*(base if node.level else []), *([node.module] if node.module else [])])
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{start}.{alias.name}"
                if start in modules():
                    yield node.lineno, start, alias.name
    rebound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    rebound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    ours = {alias: name for alias, name in aliases.items() if name in modules() and alias not in rebound}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) in ours:
            yield node.lineno, ours[node.value.id], node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("setattr", "object", "delattr"):
            module, name = ([*node.args, None, None])[:2]
            if getattr(module, "id", None) in ours and isinstance(name, ast.Constant):
                yield node.lineno, ours[module.id], name.value
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(".") > 1:
            module, _, name = node.value.rpartition(".")
            if module in modules() and name.isidentifier():
                yield node.lineno, module, name


_WRITTEN = re.compile(r"from (apa_(?:deploy|exporters)[\w.]*) import ([\w, ]+|\([\w,\s]+\))")


def written_uses(path):
    """(line, module of ours, name) of each import in any text: documents, code that a test writes or runs."""
    text = path.read_text(encoding="utf-8")
    for match in _WRITTEN.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        for name in match[2].strip("() \n").split(","):
            if match[1] in modules() and name.strip():
                yield line, match[1], name.split()[0]


@pytest.mark.parametrize("kind", ["*.md", "*.py"])
def test_whatever_a_text_imports_from_a_module_of_ours_is_there(kind):
    texts = [path for folder in (*USERS, "docs", "docker") for path in (ROOT / folder).rglob(kind)]
    missing = [
        f"{path.relative_to(ROOT)}:{line}: {module} has no {name}"
        for path in [*texts, *ROOT.glob(kind)]
        for line, module, name in written_uses(path)
        if name not in names_of(module)
    ]
    assert missing == []


def test_whatever_is_taken_from_a_module_of_ours_is_there():
    missing = [
        f"{path.relative_to(ROOT)}:{line}: {module} has no {name}"
        for folder in USERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, module, name in uses_in(path)
        if name not in names_of(module)
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("call", "home"),
    [
        ("InferenceSession(", "apa_deploy.runtimes.ort_session"),
        ("openvino.Core(", "apa_deploy.runtimes.openvino"),
        ("os.killpg(", "apa_deploy.child_process"),
    ],
)
def test_an_idea_has_one_home(call, home):
    alone = [name for name, (path, _) in modules().items() if call in path.read_text() and not is_alone(name)]
    assert alone == [home]


def is_alone(name):
    return any(part in name for part in ALONE)
