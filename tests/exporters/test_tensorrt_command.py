"""apa_exporters.tensorrt: options, profiles and the one command; the GPU machine is a stand-in."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from apa_exporters.cli import main
from apa_exporters.onnx.export import OnnxOptions
from apa_exporters.onnx.options import CodingOptions
from apa_exporters.tensorrt.bundle import profile
from apa_exporters.tensorrt.export import export_bundle
from apa_exporters.tensorrt.options import TrtGraphOptions, TrtOptions, check_trt_options
from apa_exporters.tensorrt.precisions import split_precision

from apa_deploy.errors import InputError
from apa_deploy.loading.load import load
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.records.passport import read_passport
from apa_deploy.runtimes.cuda_driver import device_count
from apa_deploy.tensors.signature import image_signature
from tests.exporters.trt_bundles import OPTIONS, Ran, digits, exported, names
from tests.networks import RawActivation, tiny_net

CORPUS = Path(__file__).parents[1] / "graph" / "corpus" / "files"
pytestmark = pytest.mark.skipif(device_count() > 0, reason="a real GPU would answer in the stand-in's place")


def test_aot_of_parameters_per_channel_is_refused(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), RawActivation(shape=(4, 1, 1))).eval()
    network = TorchNetwork(net, image_signature((3, 8, 8)), Metadata("n", source="n.pth", sha256="0" * 64))
    with pytest.raises(InputError, match="parameters per channel; wanted one lambda"):
        export_bundle(network, tmp_path / "b", "m.engine", replace(OPTIONS, activation="aot"))
    assert not (tmp_path / "b").exists()


REFUSED = [
    ({"batches": (8, 4, 32)}, "--batch 8:4:32"),
    ({"images": ((3, 16, 16), (3, 8, 16), (3, 32, 32))}, "--shapes 3x16x16:3x8x16:3x32x32"),
    ({"activation": "decomposed", "embed_plugin": True}, "--embed-plugin"),
    ({"activation": "aot", "embed_plugin": True}, "--embed-plugin with --activation aot"),
    ({"graph": OnnxOptions(precision="bf16", half_io=True)}, "--half-io with --precision bf16"),
    (
        {"graph": TrtGraphOptions(precision="fp8"), "hardware_compatible": "AMPERE_PLUS"},
        "--precision fp8 with --hardware",
    ),
    ({"optimization_level": 6}, "--optimization-level 6"),
    ({"runs": 1}, "--latency-runs 1"),
]


@pytest.mark.parametrize(("options", "saw"), REFUSED, ids=[c[1] for c in REFUSED])
def test_options_that_make_no_sense(options, saw):
    with pytest.raises(InputError, match=saw):
        check_trt_options(TrtOptions(**options))


def test_an_engine_for_ampere_and_later_is_not_tried_in_fp8():
    graph = TrtGraphOptions(precision="auto", coding=CodingOptions(data="samples.npz"))
    tried, not_tried = split_precision(TrtOptions(graph, hardware_compatible="AMPERE_PLUS"))
    assert list(tried) == ["int8", "fp16"] and list(not_tried) == ["fp8"]
    assert list(split_precision(TrtOptions(graph))[0]) == ["int8", "fp8", "fp16"]


def test_profile_has_shapes_of_images_too():
    images = ((3, 8, 8), (3, 16, 16), (3, 32, 16))
    wanted = {"input": [[1, 3, 8, 8], [8, 3, 16, 16], [32, 3, 32, 16]]}
    assert profile(TrtOptions(images=images), digits().signature, {}) == wanted


def test_bundle_of_images_of_many_sizes_without_learned_activations(tmp_path):
    """Golden inputs are of the usual size; there is nothing that a plugin could do."""
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)).eval()
    model = TorchNetwork(
        plain, image_signature((3, 16, 16)), Metadata("plain", source="plain.pth", sha256="0" * 64)
    )
    options = TrtOptions(batches=(1, 2, 4), images=((3, 8, 8), (3, 12, 12), (3, 32, 32)))
    recipe, _ = export_bundle(model, tmp_path / "b", "model.engine", options)
    assert recipe.models == {"decomposed": "model.onnx"}
    assert recipe.plugin is None
    with np.load(tmp_path / "b/golden/inputs.npz") as inputs:
        assert {array.shape for array in inputs.values()} == {(2, 3, 12, 12)}


def test_somebodys_onnx_becomes_an_engine(machine, tmp_path):
    """Inputs and outputs of other names, activations recognised in the graph."""
    model = load(CORPUS / "torch-2.1.2-torchscript-17.onnx")
    options = TrtOptions(OnnxOptions(), batches=(1, 2, 4), runs=OPTIONS.runs)
    recipe, passport = export_bundle(model, tmp_path / "b", "model.engine", options)
    assert list(recipe.shapes) == passport_inputs(passport) != ["input"]
    ran = Ran(tmp_path / "b", tmp_path / "out", machine, 10)
    assert ran.code == 0, ran.error
    made = read_passport(tmp_path / "out/model.engine.passport.json")
    assert made.parity.passed and made.activations


def passport_inputs(passport):
    return [tensor.name for tensor in passport.input_tensors]


def test_bundle_replaces_no_other_folder(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "photo").write_text("")
    with pytest.raises(InputError, match="holds other things"):
        export_bundle(digits(), tmp_path / "home", "m.engine", TrtOptions(OnnxOptions(force=True)))
    assert names(tmp_path / "home") == ["photo"]


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(tiny_net().state_dict(), "model.pth")
    return ["model.pth", "--model", "tests.networks:tiny_net", "--input-shape", "3x16x16", "--format", "trt"]


def test_without_a_gpu_exits_3(checkpoint, tmp_path, capsys):
    assert main(checkpoint) == 3
    said = capsys.readouterr().err
    assert "this machine lacks the package tensorrt, the NVIDIA driver" in said
    assert "pip install 'apa-deploy[gpu]'" in said
    assert "--bundle DIR" in said
    assert "Tracing" not in said
    assert names(tmp_path) == ["model.pth"]


MISUSE_CASES = [
    (["--format", "trt-rtx", "--activation", "plugin"], "--format trt"),
    (["--format", "onnx", "--bundle", "d"], "--format trt"),
    (["--compute-capability", "8.6"], "--format trt-rtx"),
    (["--workspace", "much"], "512M or 4G"),
    (["--shapes", "3x16x16"], "MIN:OPT:MAX"),
]


@pytest.mark.parametrize(("arguments", "saw"), MISUSE_CASES, ids=[" ".join(c[0]) for c in MISUSE_CASES])
def test_misuse_exits_2(arguments, saw, checkpoint, tmp_path, capsys):
    try:
        code = main([*checkpoint, *arguments])
    except SystemExit as stop:  # argparse's own
        code = stop.code
    assert code == 2
    assert saw in capsys.readouterr().err
    assert names(tmp_path) == ["model.pth"]


def test_one_command_where_a_gpu_is(checkpoint, machine, tmp_path):
    given = "--precision fp16 --batch 1:2:4 --latency-runs 20 --workspace 1G --timing-cache t.cache --json"
    done = exported(checkpoint, machine, given)
    assert done.returncode == 0, done.stderr
    assert names(tmp_path) == ["model.engine", "model.engine.passport.json", "model.pth", "t.cache"]
    passport = read_passport(tmp_path / "model.engine.passport.json")
    assert json.loads(done.stdout)["build"]["activation"] == passport.build.activation
    assert passport.options["workspace"] == 1 << 30
    assert "activation decomposed: p50" in done.stderr
    assert "Building engine: Tactics" in done.stderr
