"""apa_exporters.tensorrt_rtx: real engines, built here; refusals before the build; a builder that dies."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from apa_exporters import build_progress
from apa_exporters.cli import main
from apa_exporters.onnx.export import OnnxOptions
from apa_exporters.tensorrt_rtx.build_process import Job, build_in_child
from apa_exporters.tensorrt_rtx.builder import launches
from apa_exporters.tensorrt_rtx.export import RtxOptions, export_rtx
from apa_exporters.tensorrt_rtx.limits import TargetError, check_graph

from apa_deploy.child_process import ChildError
from apa_deploy.deployment import Deployment, deploy
from apa_deploy.errors import MissingError
from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.precision import in_precision
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.parity.model_gate import check_recorded
from apa_deploy.records.passport import passport_path, read_passport
from apa_deploy.runtimes.cuda_driver import device_count
from apa_deploy.tensors.inputs import seeded_feeds
from apa_deploy.tensors.signature import image_signature
from tests.networks import RawActivation, tiny_net

pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
SHAPE = (3, 16, 16)
PRECISIONS = ("fp32", "fp16", "bf16")


def one_layer():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), RawActivation(0.4, 1.1))
    return TorchNetwork(net.eval(), image_signature(SHAPE), Metadata("layer", source="layer.pth", sha256="0" * 64))


def digits():
    return TorchNetwork(
        tiny_net(), image_signature(SHAPE), Metadata("digits", source="digits.pth", sha256="0" * 64)
    )


@pytest.fixture(scope="module")
def traced():
    return digits().trace()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("network", "precision"), [*((one_layer, precision) for precision in PRECISIONS), (digits, "fp16")]
)
def test_engine_in_each_precision(network, precision, tmp_path, capsys):
    out = tmp_path / "m.engine"
    passport = export_rtx(network(), out, RtxOptions(OnnxOptions(precision=precision)))
    assert names(tmp_path) == ["m.engine", "m.engine.passport.json"]
    assert read_passport(passport_path(out)) == passport
    assert (passport.format, passport.options["precision"]) == ("trt-rtx", precision)
    assert passport.parity.passed
    build = passport.build
    assert (build.batches, build.capabilities) == ((1, 8, 32), [])
    assert passport.outputs[0].bytes == out.stat().st_size
    assert build.seconds > 0
    assert build.peak_memory_bytes > 1 << 20
    if network is one_layer and precision != "fp32":
        # input to NHWC, convolution, output back: the chain's dozen of nodes melts into one of these. Into which,
        # and so the layers' types, differs from machine to machine; test_rtx_launches.py counts beside SiLU.
        assert sum(build.launches.values()) <= 3
    assert build.executed == bool(device_count())
    if not build.executed:
        assert "engine not executed on this machine" in build.note
    assert "Building engine" in capsys.readouterr().err


@pytest.mark.parametrize("batches", [(4, 4, 4), (2, 3, 5)])
@pytest.mark.parametrize("capabilities", [("8.6",), ("7.5", "8.9", "12.0")])
def test_targets_and_batches(batches, capabilities, tmp_path):
    options = RtxOptions(OnnxOptions(precision="fp16", verify=False), batches, capabilities=capabilities)
    passport = export_rtx(one_layer(), tmp_path / "m.engine", options)
    assert (passport.build.batches, passport.build.capabilities) == (batches, list(capabilities))


def test_pixels_and_half_outputs(tmp_path):
    model = deploy(digits(), Deployment(preprocess="imagenet", softmax=True))
    passport = export_rtx(model, tmp_path / "m.engine", RtxOptions(OnnxOptions(precision="fp16", half_io=True)))
    assert passport.parity.passed
    assert passport.options["half_io"]


REFUSED = [
    (
        "bf16 for Turing",
        RtxOptions(OnnxOptions(precision="bf16"), capabilities=("7.5",)),
        "7.5 with --precision bf16",
    ),
    ("a data-centre GPU", RtxOptions(capabilities=("9.0",)), "7.5, 8.0, 8.6"),
    ("a profile out of order", RtxOptions(batches=(8, 4, 32)), "8:4:32"),
    ("an empty batch", RtxOptions(batches=(0, 1, 1)), "MIN <= OPT"),
]


@pytest.mark.parametrize(("options", "saw"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_refused_before_the_build(options, saw, tmp_path, capsys):
    with pytest.raises(TargetError, match=saw):
        export_rtx(one_layer(), tmp_path / "m.engine", options)
    assert "Tracing" not in capsys.readouterr().err
    assert not names(tmp_path)


def test_float32_products_for_turing_are_refused(traced):
    proto = decompose(onnx.ModelProto.FromString(traced.proto.SerializeToString()))
    check_graph(proto, ("8.6",))
    with pytest.raises(TargetError, match="Turing multiplies matrices in fp16 only"):
        check_graph(proto, ("7.5",))
    check_graph(in_precision(proto, "fp16"), ("7.5",))


@pytest.mark.skipif(device_count() > 0, reason="with a GPU the weights can be left out")
def test_stripping_weights_needs_a_gpu(tmp_path):
    with pytest.raises(MissingError, match="--strip-weights"):
        export_rtx(one_layer(), tmp_path / "m.engine", RtxOptions(strip_weights=True))


def test_missing_package_exits_3(cifar_checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # what Python does where it is not installed
    assert main([str(cifar_checkpoint), "--format", "trt-rtx", "-o", "m.engine"]) == 3
    assert "pip install 'apa-deploy[rtx]'" in capsys.readouterr().err
    assert names(tmp_path) == ["model.pth"]


def test_one_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save(tiny_net().state_dict(), "model.pth")
    arguments = "--format trt-rtx --precision fp16 --compute-capability 8.6,8.9 --batch 1:4:8"
    network = "--model tests.networks:tiny_net --input-shape 3x16x16"
    assert main(["model.pth", *arguments.split(), *network.split()]) == 0
    assert names(tmp_path) == ["model.engine", "model.engine.passport.json", "model.pth"]
    said = capsys.readouterr()
    assert "compute capability 8.6, 8.9, batch 1:4:8" in said.out
    assert "kernel launches" in said.out
    assert "verified against the float64 module" in said.out
    if not device_count():
        assert "engine not executed on this machine" in said.err


MISUSE = [
    (["--format", "trt-rtx", "-o", "m.onnx"], ".engine"),
    (["--batch", "1:8:32"], "--format trt-rtx"),
    (["--compute-capability", "8.6"], "--format trt-rtx"),
    (["--strip-weights"], "--format trt-rtx"),
    (["--format", "trt-rtx", "--compute-capability", "sm_86"], "8.6,8.9,12.0"),
    (["--format", "trt-rtx", "--batch", "1:8"], "MIN:OPT:MAX"),
    (["--half-io"], "--half-io with --precision fp32"),
    (["--precision", "int4"], "wanted one of fp32, "),
    (["--format", "trt-rtx", "--precision", "int8"], "--precision int8 without --calibration"),
]


@pytest.mark.parametrize(("arguments", "saw"), MISUSE, ids=[" ".join(c[0]) for c in MISUSE])
def test_misuse_exits_2(arguments, saw, cifar_checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = main([str(cifar_checkpoint), *arguments])
    except SystemExit as stop:  # argparse's own
        code = stop.code
    assert code == 2
    assert saw in capsys.readouterr().err
    assert names(tmp_path) == ["model.pth"]


@pytest.fixture(scope="module")
def layer():
    return decompose(one_layer().trace().proto).SerializeToString()


@pytest.fixture
def job(layer, tmp_path):
    onnx.save(onnx.ModelProto.FromString(layer), tmp_path / "model.onnx")
    paths = {
        key: str(tmp_path / name) for key, name in [("model", "model.onnx"), ("engine", "e"), ("log", "b.log")]
    }
    return Job(**paths, sample_shape=SHAPE, batches=(1, 2, 4))


@pytest.mark.parametrize("fatal", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL])
def test_a_builder_that_dies_is_an_error_with_its_last_lines(fatal, job):
    """The signals of an abort inside the library, of a wild pointer, and of the kernel when memory runs out."""
    child = []

    def strike(report):
        child.extend([report["pid"]] if "pid" in report else [])
        if report.get("phase") == "Building engine":
            os.kill(child[0], fatal)

    with pytest.raises(ChildError, match=fatal.name) as caught:
        build_in_child(job, strike)
    assert caught.value.exit_code == 1
    assert any("[VERBOSE]" in line or "[INFO]" in line for line in caught.value.log)


def test_a_builder_that_dies_leaves_nothing(tmp_path, monkeypatch):

    def strike(process, _on_report):
        next(line for line in process.stdout if "phase" in line)
        process.send_signal(signal.SIGSEGV)
        return {}

    monkeypatch.setattr(build_progress, "_last_report", strike)
    with pytest.raises(ChildError, match=r"SIGSEGV.*last lines"):
        export_rtx(one_layer(), tmp_path / "m.engine", RtxOptions(OnnxOptions(verify=False)))
    assert not names(tmp_path)


def test_a_model_that_the_parser_refuses(job):
    proto = onnx.load(job.model)
    proto.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(proto, job.model)
    with pytest.raises(ChildError, match="NoSuchOperator") as caught:
        build_in_child(job)
    assert any("[ERROR]" in line for line in caught.value.log)


def test_progress_comes_from_the_builder(job):
    reports = []
    built = build_in_child(job, reports.append)
    phases = {r["phase"]: r for r in reports if "steps" in r}
    assert "Building engine" in phases
    assert {r["parent"] for r in phases.values()} > {None}
    assert [r["phase"] for r in reports if "finished" in r]
    assert "result" in reports[-1]
    assert built.bytes == Path(job.engine).stat().st_size


def test_layer_log_is_counted_without_waits_and_shapes():
    log = "\n".join(
        f"Name: n{i}, LayerType: {kind}, Inputs: [{{ Name: x, LayerType: no }}]"
        for i, kind in enumerate(["kgen", "shape_call", "kgen", "signal", "wait", "gemm"])
    )
    assert launches("Layers:\n" + log) == {"kgen": 2, "gemm": 1}


@pytest.mark.parametrize("fault", [0.0, 0.05])
def test_recorded_outputs_are_judged(fault, traced):
    """What a GPU's process records passes the same gate; ONNX Runtime records here, once with a fault."""
    proto = decompose(onnx.ModelProto.FromString(traced.proto.SerializeToString()))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    feeds = seeded_feeds(image_signature(SHAPE))
    recorded = [{"logits": np.asarray(session.run(None, feed)[0]) + fault} for feed in feeds]
    for precision in PRECISIONS:
        (check,) = check_recorded(recorded, "engine", digits(), feeds, precision)
        assert (check.runner, check.passed) == ("engine", not fault)
