"""docs/architecture.md leads to what is there, and the recipes of CONTRIBUTING.md work on a copy."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

ROOT = Path(__file__).parents[2]
WALKS = (ROOT / "docs" / "architecture.md").read_text().partition("## Four walks")[2]
STEP = re.compile(r"`((?:exporters/)?[\w/]+/\w+\.py)`(?: \(([^)]*)\))?")


def test_every_step_of_a_walk_is_there():
    steps = STEP.findall(WALKS)
    assert WALKS.count("\n### ") == 4 and len(steps) > 25
    for file, names in steps:
        path = ROOT / file if (ROOT / file).exists() else ROOT / "apa_deploy" / file
        text = path.read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^\s*(?:async )?(?:def|class) {name}\b", text, re.MULTILINE), (file, name)


# The smallest of each recipe: a pass, an option that asks for it, a target with an option of its own.
PASS = '''
"""Give every node a name that begins so."""

import onnx


def prefix_nodes(model: onnx.ModelProto, prefix: str) -> onnx.ModelProto:
    """`a -> Relu -> b` becomes the same with the node `prefix/...`."""
    for i, node in enumerate(model.graph.node):
        node.name = f"{prefix}/{node.name or i}"
    return model
'''
OPTION = '    prefix: str = option("", "of the names of nodes", metavar="TEXT")\n'
TARGET_OPTIONS = '''
"""The options of `--format listing`."""

from dataclasses import dataclass
from pathlib import Path

from ..onnx.options import GraphOptions
from ..options import option
from ..target import ExportSource, Outcome, Target


@dataclass(frozen=True)
class ListingOptions(GraphOptions):
    upper: bool = option(False, "in capital letters")


def _export(source: ExportSource, output: Path, options: ListingOptions) -> Outcome:
    from .export import export_listing

    return Outcome(output, export_listing(source.load(), output, options))


TARGET = Target("listing", ".txt", ListingOptions, _export)
'''
TARGET_EXPORT = '''
"""`--format listing`: the operators of the ONNX file, one a line."""

import onnx

from apa_deploy.files import stage_files
from apa_deploy.records.passport import dump, file_record, passport_path

from ..onnx.export import export_onnx


def export_listing(network, out, options):
    with stage_files([out, passport_path(out)], force=options.force) as folder:
        source = folder / "model.onnx"
        passport = export_onnx(network, source, options.as_onnx("onnx", None))
        lines = [f"{node.name} {node.op_type}" for node in onnx.load(source).graph.node]
        text = "\\n".join(lines) + "\\n"
        (folder / out.name).write_text(text.upper() if options.upper else text)
        passport.format, passport.outputs = "listing", [file_record(folder / out.name)]
        passport_path(folder / out.name).write_text(dump(passport))
    return passport
'''


def change(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project with the recipes of CONTRIBUTING.md followed."""
    root = tmp_path_factory.mktemp("copy")
    for part in ("apa_deploy", "exporters", "tests/test_structure.py"):
        source, target = ROOT / part, root / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir()
            shutil.copy(source, target)
    exporters = root / "exporters" / "apa_exporters"
    (root / "apa_deploy" / "graph" / "prefix_nodes.py").write_text(PASS.lstrip())
    graph_options = exporters / "onnx" / "options.py"
    anchor = '    half_io: bool = option(False, "inputs and outputs in that precision too")\n'
    change(graph_options, anchor, anchor + OPTION)
    export = exporters / "onnx" / "export.py"
    change(export, "    return decompose(proto, options.decomposition)\n",
           "    proto = decompose(proto, options.decomposition)\n"
           "    return prefix_nodes(proto, options.prefix) if options.prefix else proto\n")  # fmt: skip
    line = "from apa_deploy.graph.decompose import decompose\n"
    change(export, line, f"{line}from apa_deploy.graph.prefix_nodes import prefix_nodes\n")
    target = exporters / "listing"
    target.mkdir()
    (target / "__init__.py").write_text('"""A list of operators."""\n')
    (target / "options.py").write_text(TARGET_OPTIONS.lstrip())
    (target / "export.py").write_text(TARGET_EXPORT.lstrip())
    registry = exporters / "registry.py"
    line = "from .onnx.options import TARGETS as ONNX\n"
    change(registry, line, f"from .listing.options import TARGET as LISTING\n{line}")
    change(registry, "(*ONNX, OPENVINO, TRT, RTX, TRITON)", "(*ONNX, OPENVINO, TRT, RTX, TRITON, LISTING)")
    return root


# An editable install finds our packages before sys.path is asked.
COPY_FIRST = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
sys.path[:0] = [{root!r}, {exporters!r}]
import apa_deploy, apa_exporters.cli
assert apa_deploy.__file__.startswith({root!r}) and apa_exporters.__file__.startswith({root!r})
"""
SCRIPT = COPY_FIRST + "sys.exit(apa_exporters.cli.main({arguments!r}))"
PYTEST = COPY_FIRST + "import pytest; sys.exit(pytest.main({arguments!r}))"


def run(copy, folder, *arguments, script=SCRIPT):
    roots = {"root": str(copy), "exporters": str(copy / "exporters"), "arguments": [str(a) for a in arguments]}
    return subprocess.run(
        [sys.executable, "-c", script.format(**roots)], cwd=folder, capture_output=True, text=True, timeout=500
    )


def test_the_recipes_work(copy, tmp_path):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "small", ends[:1], ends[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "w.onnx"
    )
    model = ("w.onnx", "--no-verify")
    done = run(copy, tmp_path, *model, "-o", "x.txt", "--format", "listing", "--prefix", "mine", "--upper")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "x.txt").read_text().splitlines()
    assert lines and all(line.startswith("MINE/") for line in lines)
    assert (tmp_path / "x.txt.passport.json").exists()


def test_what_a_recipe_adds_is_an_option_of_its_formats(copy, tmp_path):
    shown = run(copy, tmp_path, "--help").stdout
    assert "--prefix TEXT" in shown and "--upper" in shown and "listing" in shown
    refused = run(copy, tmp_path, "none.pth", "--format", "onnx", "--upper")
    assert refused.returncode == 2 and "listing" in refused.stderr


@pytest.mark.long
def test_the_copy_keeps_the_structure(copy):
    done = run(copy, copy, "-c", "/dev/null", "--rootdir", copy, copy / "tests", script=PYTEST)
    assert done.returncode == 0, done.stdout[-3000:]
