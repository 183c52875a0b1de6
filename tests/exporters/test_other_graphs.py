"""What other exporters write: whatever ONNX Runtime loads is exported and verified, or refused with the reason."""

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from apa_exporters.cli import main
from apa_exporters.onnx.export import OnnxOptions, export_onnx

import apa_deploy
from apa_deploy.errors import InputError
from tests.graph.other_graphs import GRAPHS, graph, out_of_order


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def export(model, name="theirs.onnx"):
    onnx.save(model, name)
    return export_onnx(apa_deploy.load(name), Path("out.onnx"), OnnxOptions(force=True))


@pytest.mark.parametrize("name", GRAPHS)
def test_exported_and_verified(name):
    passport = export(GRAPHS[name]())
    assert passport.parity.passed
    assert [a.kind for a in passport.activations] == ["AGLU"]
    assert [c.path for c in passport.parity.activations] == ([] if name == "double" else ["u"])


def test_links_of_a_hubs_cache(tmp_path):
    onnx.save(GRAPHS["layer norm"](), "m", save_as_external_data=True, location="w", size_threshold=0)
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True), blobs.mkdir()
    for name, blob, link in (("m", "1f", "model.onnx"), ("w", "2e", "w")):
        shutil.move(name, blobs / blob)
        (snapshot / link).symlink_to(f"../../blobs/{blob}")
    assert onnxruntime.InferenceSession(str(snapshot / "model.onnx"))
    model = apa_deploy.load(snapshot / "model.onnx")
    assert export_onnx(model, Path("out.onnx"), OnnxOptions(force=True)).parity.passed


@pytest.mark.parametrize("where", ["elsewhere/w", "../w"])
def test_weights_that_lead_out_of_the_folder(tmp_path, where):
    (tmp_path / "inside").mkdir(), (tmp_path / "elsewhere").mkdir()
    onnx.save(GRAPHS["layer norm"](), "inside/m.onnx", save_as_external_data=True, location="w", size_threshold=0)
    shutil.move("inside/w", tmp_path / where.removeprefix("../"))
    Path("inside/w").symlink_to(f"../{where.removeprefix('../')}")
    if where.startswith(".."):
        model = onnx.load("inside/m.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            tensor.external_data[0].value = where
        onnx.save(model, "inside/m.onnx")
    with pytest.raises(InputError, match="leads out of the folder"):
        apa_deploy.load("inside/m.onnx")


REFUSED = {
    "opset 30": (lambda: graph(("Relu", ["u"], ["y"]), opset=30), "opset 30; onnx"),
    "IR 99": (lambda: graph(("Relu", ["u"], ["y"]), ir=99), "IR version 99; onnx"),
    "an attribute of an older opset": (
        lambda: graph(("ReduceMean", ["u"], ["y"], {"axes": [2, 3]}), opset=24), "Unrecognized attribute: axes",
    ),
    "double convolution": (
        lambda: graph(("Conv", ["u", "w"], ["y"]), element=11, outputs=(("y", 11, ("n", 4, 8, 8)),),
                      w=np.ones((4, 4, 1, 1))), "Could not find an implementation for Conv",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(name, capsys):
    make, words = REFUSED[name]
    onnx.save(make(), "theirs.onnx")
    assert main(["theirs.onnx", "-o", "out.onnx"]) == 2
    said = capsys.readouterr().err
    assert re.search(words, said) and "unexpected" not in said
    assert [p.name for p in Path.cwd().iterdir()] == ["theirs.onnx"]


def test_nodes_that_wait_for_one_another():
    model = out_of_order(graph(("Relu", ["u"], ["y"])))
    model.graph.node[1].input[0] = model.graph.node[0].output[0]
    onnx.save(model, "theirs.onnx")
    with pytest.raises(InputError, match="waits for itself"):
        apa_deploy.load("theirs.onnx")
