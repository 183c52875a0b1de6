"""apa_deploy.graph.recognise on what exporters and simplifiers really write."""

from pathlib import Path

import numpy as np
import pytest
import torch
from apa_exporters.cli import main

from apa_deploy.graph.recognise import recognise
from apa_deploy.loading.onnx_file import load_onnx
from apa_deploy.loading.opset import convert_opset
from tests.graph.corpus.make import TRUTH, Net

FILES = sorted((Path(__file__).parent / "corpus" / "files").glob("*.onnx"))
# As in test_recognise; some simplifiers round kappa once more, into the weights.
RELATIVE = 4e-6


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_exporter_and_simplifier(path):
    found = recognise(load_onnx(path)).found
    assert [f.kind for f in found] == [kind for kind, _, _ in TRUTH]
    for fold, (kind, lambda_, kappa) in zip(found, TRUTH, strict=True):
        np.testing.assert_allclose(fold.parameters.lambda_, lambda_, rtol=RELATIVE, atol=1e-6)
        if path.stem.startswith("sim-") and kind == "APA":
            # onnxsim moves a gate's kappa into the convolution before it, and leaves its sign
            np.testing.assert_allclose(fold.parameters.kappa, np.sign(kappa), rtol=RELATIVE)
        else:
            np.testing.assert_allclose(fold.parameters.kappa, kappa, rtol=RELATIVE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_what_is_refused_is_no_activation_of_ours(path):
    reasons = " | ".join(refusal.reason for refusal in recognise(load_onnx(path)).refused)
    assert "SiLU without lambda or kappa" in reasons
    assert "Sigmoid without lambda or kappa" in reasons


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_opset_18_after_folding(path):
    model = load_onnx(path)
    recognise(model)
    names = {output for node in model.graph.node for output in node.output}
    after = convert_opset(model, 18)
    assert names <= {output for node in after.graph.node for output in node.output}


def test_modules_give_the_names(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "net.onnx"
    torch.onnx.export(Net().eval(), (torch.randn(2, 3, 4, 4),), path, dynamo=True, verbose=False)
    assert [f.name for f in recognise(load_onnx(path)).found] == ["gate", "unit", "channels", "power"]


YOLO = Path(__file__).parents[3] / "shared" / "exports" / "yolov8n_aglu_opset17.onnx.gz"


@pytest.mark.skipif(not YOLO.is_file(), reason="the detector does not lie beside the repository")
def test_a_whole_detector(tmp_path, capsys, monkeypatch):
    """57 gates with one shared pair of parameters; the logistic head stays."""
    import gzip

    import onnx

    monkeypatch.chdir(tmp_path)
    (tmp_path / "yolo.onnx").write_bytes(gzip.decompress(YOLO.read_bytes()))
    recognition = recognise(load_onnx(tmp_path / "yolo.onnx"))
    assert [f.kind for f in recognition.found] == ["APA"] * 57
    assert [r.node for r in recognition.refused] == ["/model.22/Sigmoid"]
    assert main(["yolo.onnx"]) == 0
    model = onnx.load("yolo.apa.onnx")
    assert not any(node.domain or node.op_type == "Softplus" for node in model.graph.node)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert (facts["task"], facts["stride"], facts["head"]) == ("detect", "32", "Detect")
    assert "times as fast" in capsys.readouterr().out
