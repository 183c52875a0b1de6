"""Every verb at its edges: names that act, options that are no number, outputs that are closed, other locales."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from apa_exporters.onnx import export as exporter
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import Parameters, make_node

VERBS = {
    "apa-export": "apa_exporters.cli",
    **{f"apa-{verb}": f"apa_deploy.cli.{verb}" for verb in ("inspect", "verify", "bench", "doctor", "serve")},
}
ROOT = Path(__file__).parents[2]
# Clears the screen, sets a title, turns the text round, begins a line and a heading, links.
EVIL = "\x1b[2J\x1b]0;t\x07\u202egpj\n# x\r\x08[c](javascript:alert(1))"


def call(verb, *arguments):
    try:
        return importlib.import_module(VERBS[verb]).main(list(map(str, arguments)))
    except SystemExit as stop:
        return stop.code


def model(path, name="act", output="y", learned=True):
    node = make_node("AGLU", "x", output, Parameters((0.5,), (1.1,)), name)
    ends = [helper.make_tensor_value_info(one, TensorProto.FLOAT, ("N", 4)) for one in ("x", output)]
    plain = helper.make_node("Sigmoid", ["x"], [output], name=name)
    graph = helper.make_graph([node if learned else plain], "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    made = helper.make_model(graph, opset_imports=opsets[: 1 + learned], ir_version=8)
    onnx.save(with_functions(made) if learned else made, path)
    return path


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("report", ["r.html", "r.md"])
def test_a_failed_gate_without_activations_reports(report, monkeypatch, capsys):
    """There is nobody to blame, and the report is written all the same."""
    model(Path("m.onnx"), learned=False)
    right = exporter.write_onnx

    def wrong(proto, path, *more):
        proto.graph.initializer.append(numpy_helper.from_array(np.float32(1.5), "wrong"))
        proto.graph.node[-1].output[0] = "right"
        proto.graph.node.append(helper.make_node("Mul", ["right", "wrong"], ["y"]))
        return right(proto, path, *more)

    monkeypatch.setattr(exporter, "write_onnx", wrong)
    assert call("apa-export", "m.onnx", "-o", "o.onnx", "--report", report) == 1
    said = capsys.readouterr().err
    assert "y is " in said and "unexpected" not in said and not Path("o.onnx").exists()
    assert "is not right" in Path(report).read_text()


def asked(name):
    """Each verb that reads a file of a stranger, once."""
    return [
        ("apa-inspect", name),
        ("apa-inspect", name, "--report", "i.md"),
        ("apa-export", name, "-o", "o.onnx", "--force", "--report", "e.md"),
        ("apa-verify", name, name, "--report", "v.md"),
        ("apa-doctor", name),
        ("apa-bench", name, "--launches", "1", "--rounds", "2", "--duration", "0.1", "--report", "b.md"),
        ("apa-serve", name + "/none"),
    ]


def test_names_are_data_in_every_verb(capsys):
    name = "\x1b[31m\u202ea\n.onnx"
    model(Path(name), EVIL, "y" + EVIL)
    for command in asked(name):
        code = call(*command)
        said = capsys.readouterr()
        assert code in (0, 2), (command, said.err)
        for text in (said.out, said.err):
            assert all(letter == "\n" or letter.isprintable() for letter in text), command
            assert "\n# x" not in text and "unexpected" not in text
    for page in Path().glob("*.md"):
        text = page.read_text()
        assert "\x1b" not in text and "\n# x" not in text and "\u202e" not in text
        assert "[c](javascript" not in text.replace("\\[c](javascript", "")


NUMBERS = [
    ("apa-serve", ["--instances", "0"]),
    ("apa-serve", ["--instances", "-1"]),
    ("apa-serve", ["--grace-s", "nan"]),
    ("apa-verify", ["m.onnx", "--max-rel", "nan"]),
    ("apa-verify", ["m.onnx", "--max-rel", "-1"]),
    ("apa-verify", ["m.onnx", "--max-abs", "inf"]),
    ("apa-verify", ["m.onnx", "--min-agreement", "nan"]),
    ("apa-verify", ["m.onnx", "--timeout", "nan"]),
    ("apa-verify", ["m.onnx", "--batch", "0"]),
    ("apa-bench", ["--batch", "0"]),
    ("apa-export", ["--min-sqnr", "nan"]),
    ("apa-export", ["--calibration-samples", "0"]),
]


@pytest.mark.parametrize(("verb", "options"), NUMBERS, ids=[" ".join([v, *o]) for v, o in NUMBERS])
def test_no_number_is_misuse(verb, options, capsys):
    model(Path("m.onnx"))
    assert call(verb, "m.onnx", *options) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "; wanted " in said and "unexpected" not in said


def program(verb, *arguments, **options):
    code = f"import sys; from {VERBS[verb]} import main; sys.exit(main())"
    return run_python("-c", code, *arguments, **options)


def run_python(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'exporters'}"} | options.pop("env", {})
    command = [sys.executable, "-P", *map(str, arguments)]
    return subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=300, **options)


def test_json_to_a_closed_pipe_and_a_full_disk():
    model(Path("m.onnx"))
    reader, writer = os.pipe()
    os.close(reader)
    try:
        closed = program("apa-inspect", "m.onnx", "--json", stdout=writer)
    finally:
        os.close(writer)
    assert (closed.returncode, closed.stderr) == (141, "")
    with Path("/dev/full").open("w") as full:
        done = program("apa-inspect", "m.onnx", "--json", stdout=full)
    assert (
        done.returncode == 2 and done.stderr.startswith("error: standard output") and "Traceback" not in done.stderr
    )


def test_names_of_any_language_under_lang_c():
    """Python then reads a name as bytes: ONNX Runtime gets it as text, and JSON says what to set."""
    folder = Path("模型 ü")
    folder.mkdir()
    model(folder / "ÿ 名.onnx")
    plain = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "APA_LAYOUT": "0"}
    code = "import sys, numpy, apa_deploy; session = apa_deploy.Session(sys.argv[1])"
    code += "; print(list(session.run({'x': numpy.ones((1, 4), 'f')})))"
    found = run_python("-c", code, folder / "ÿ 名.onnx", env=plain, stdout=subprocess.PIPE)
    assert found.stdout == "['y']\n", found.stderr
    done = program("apa-export", folder / "ÿ 名.onnx", "-o", "o.onnx", env=plain, stdout=subprocess.PIPE)
    assert done.returncode == 2 and "set LC_ALL=C.UTF-8" in done.stderr


def test_a_name_that_is_no_text():
    name = os.fsdecode(b"\xff\xfe.onnx")
    try:
        model(Path("m.onnx")).rename(name)
    except OSError:
        pytest.skip("this disk takes text alone")
    done = program("apa-verify", name, name, stdout=subprocess.PIPE, env={"APA_LAYOUT": "0"})
    assert done.returncode == 2, done.stderr
    assert "unexpected" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_ctrl_c_while_the_verb_is_imported_is_no_traceback(verb):
    """Its package, which is imported before it, ends the process without a word."""
    interrupt = (
        f"import sys, os, signal; sys.argv[0] = {verb!r}; import {VERBS[verb].rpartition('.')[0]}\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "while True: pass"
    )
    done = subprocess.run([sys.executable, "-c", interrupt], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
