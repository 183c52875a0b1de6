"""`--format trt --precision auto`: what the bundle holds, and which engine a stand-in for a GPU machine keeps."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from apa_exporters.cli import main
from apa_exporters.tensorrt.bundle import bundle_lines
from apa_exporters.tensorrt.on_target.checksums import write_sums
from apa_exporters.tensorrt.on_target.recipe import read_recipes, write_recipe
from apa_exporters.tensorrt.on_target.refusal import FAILED, MISSING

from apa_deploy.errors import GateError
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import read_scale_out
from apa_deploy.records.passport import read_passport
from apa_deploy.runtimes.cuda_driver import device_count
from tests import quantise_networks as networks
from tests.exporters.trt_bundles import RUNS, Ran, exported, names, need_libraries
from tests.standin.machine import MAJORS

pytestmark = pytest.mark.skipif(device_count() > 0, reason="a real GPU would answer in the stand-in's place")
AUTO = ["--format", "trt", "--precision", "auto"]
CALIBRATED = [*AUTO, "--calibration", "c.npz", "--min-sqnr", "15"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder with a network and samples."""
    folder = tmp_path_factory.mktemp("source")
    onnx.save(with_functions(networks.build(networks.squeeze)), folder / "net.onnx")
    x = np.random.default_rng(3).standard_normal((48, 3, 16, 16)).astype(np.float32)
    np.savez(folder / "c.npz", x=x)
    return folder


def export(source, bundle, *arguments):
    """`apa-export` in the source's folder; its exit code."""
    given = ["net.onnx", *arguments, "--bundle", str(bundle), "--batch", "1:2:4", "--latency-runs", str(RUNS)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(source)
        return main(given)


@pytest.fixture(scope="module")
def bundle(source, tmp_path_factory):
    need_libraries()
    folder = tmp_path_factory.mktemp("bundle") / "b"
    assert export(source, folder, *CALIBRATED) == 0
    return folder


def of(bundle, folder, **models):
    """A copy of the bundle with the named activations of the named precisions alone."""
    shutil.copytree(bundle, folder)
    for home, recipe in read_recipes(folder).items():
        if home.name in models:
            kept = {name: recipe.models[name] for name in models[home.name]}
            write_recipe(replace(recipe, models=kept), home)
        else:
            shutil.rmtree(home)
    write_sums(folder)
    return folder


def test_bundle_holds_every_precision(bundle):
    recipes = {home.name: recipe for home, recipe in read_recipes(bundle).items()}
    assert list(recipes) == ["fp16", "fp8", "int8"]
    for name, recipe in recipes.items():
        codes = ["plugin-codes"] * (name == "int8")
        assert recipe.precision == name and list(recipe.models) == ["decomposed", "aot", "plugin", *codes]
        assert (bundle / name / recipe.plugin).samefile(bundle / "plugin/libapa_trt.so")
        passport = read_passport(bundle / name / "passport.json")
        assert passport.options["precision"] == name
        assert (passport.quantisation is None) == (name == "fp16")
    lines = bundle_lines(bundle)
    assert len([line for line in lines if "--onnx=int8/model.onnx" in line]) == 1
    assert len(lines) == len(set(lines)) == 9


CODES = {"int8": ("decomposed",), "fp16": ("decomposed",), "fp8": ("decomposed",)}
KEPT = [
    # what is wrong on the machine, which precision is kept
    ("slow:fp16,wrong:int8", {"fp16", "fp8"}),  # the fastest is wrong
    ("wrong:fp16,wrong:fp8,slow:int8", {"int8"}),  # the slowest alone is right
    ("fp32:int8,refused:fp16", {"fp8"}),  # one is not in the type, one is not built
]


@pytest.mark.parametrize(("faults", "kept"), KEPT, ids=[c[0] for c in KEPT])
def test_what_is_wrong_is_never_kept(faults, kept, bundle, machine, tmp_path):
    ran = Ran(of(bundle, tmp_path / "b", **CODES), tmp_path / "out", machine, 10, faults)
    assert ran.code == 0, ran.error
    passport = read_passport(tmp_path / "out/net.engine.passport.json")
    precision = passport.options["precision"]
    assert precision in kept
    assert (passport.quantisation.precision if passport.quantisation else "fp16") == precision
    candidates = {one.precision: one for one in passport.build.candidates}
    wrong = {name.split(":")[1] for name in faults.split(",") if not name.startswith("slow")}
    assert {name for name, one in candidates.items() if one.refused} == wrong
    assert all(one.latency_ms for name, one in candidates.items() if name not in wrong)
    assert all(f"{name} decomposed did not pass" in passport.build.reason for name in wrong)
    assert passport.parity.outputs[-1].runner == f"TensorRT on Stand-in GPU, {precision}, activation decomposed"
    assert passport.parity.passed and passport.build.in_precision
    assert ran.last["result"]["said"][0].split(": ")[1].startswith(f"{precision}, activation decomposed (")


def test_activations_of_every_precision(bundle, machine, tmp_path):
    """One plugin library for all, each precision's own kernels in its plan."""
    models = {"fp16": ("aot",), "int8": ("aot", "plugin")}
    given = ("--plugin", str(bundle / "plugin/libapa_trt.so"))
    ran = Ran(of(bundle, tmp_path / "b", **models), tmp_path / "out", machine, 11, "", *given)
    assert ran.code == 0, ran.error
    build = read_passport(tmp_path / "out/net.engine.passport.json").build
    found = [(one.precision, one.activation, one.passed, one.launches["PluginV3"]) for one in build.candidates]
    assert found == [("fp16", "aot", True, 4), ("int8", "aot", True, 4), ("int8", "plugin", True, 4)]


def test_the_plugin_alone_writes_codes(bundle):
    """In its own file of int8; the passport lists that file, and ONNX Runtime is never given it."""
    given = {}
    for path in bundle.glob("*/*.onnx"):
        nodes = onnx.load(path).graph.node
        given[f"{path.parent.name}/{path.name}"] = [scale for node in nodes if (scale := read_scale_out(node))]
    (codes,) = (name for name, scales in given.items() if scales)
    assert codes == "int8/model.codes.onnx" and len(given[codes]) == 2
    model = onnx.load(bundle / codes)
    quantisers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert quantisers and not {node.input[0] for node in quantisers} & {f"{name}/float" for name in ("v1", "v3")}
    records = {one.name: one.sha256 for one in read_passport(bundle / "int8/passport.json").outputs}
    assert records["model.codes.onnx"] == hashlib.sha256((bundle / codes).read_bytes()).hexdigest()


CODES_OR_NOT = [
    # what is wrong on the machine, what is kept, why
    ("slow:plugin-codes", "plugin", "int8 plugin is "),
    ("wrong:plugin-codes", "plugin", "int8 plugin-codes did not pass"),
    ("refused:plugin-codes", "plugin", "int8 plugin-codes did not pass"),
    ("lost:plugin-codes", "plugin", "int8 plugin-codes did not pass"),  # built, but it does not load
    ("wrong:plugin", "plugin-codes", "int8 plugin did not pass"),
]


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize(("faults", "kept", "reason"), CODES_OR_NOT, ids=[c[0] for c in CODES_OR_NOT])
def test_the_plugin_writes_codes_or_not(faults, kept, reason, major, bundle, machine, tmp_path):
    """That it does where it is faster, no busy machine tells for certain: tests of the choice do."""
    two = of(bundle, tmp_path / "b", int8=("plugin", "plugin-codes"), fp16=("decomposed",))
    given = ("--plugin", str(bundle / "plugin/libapa_trt.so"))
    ran = Ran(two, tmp_path / "out", machine, major, f"{faults},refused:fp16", *given)
    assert ran.code == 0, ran.error
    build = read_passport(tmp_path / "out/net.engine.passport.json").build
    assert build.activation == kept and reason in build.reason and build.plugin.name == "libapa_trt.so"
    assert build.model.name == {"plugin": "model.custom.onnx", "plugin-codes": "model.codes.onnx"}[kept]
    said = ran.last["result"]["said"]
    assert f"int8, activation {kept} (" in said[0]
    if "slow" not in faults:
        dropped = next(one for one in build.candidates if one.refused and one.precision == "int8")
        assert f"int8, activation {dropped.activation} not used: {dropped.refused}" in said


@pytest.mark.parametrize("fault", ["refused:plugin-codes", "lost:plugin-codes"])
def test_a_failed_build_leaves_no_plugin_in_the_way_of_embedded_ones(fault, bundle, machine, tmp_path):
    two = of(bundle, tmp_path / "b", int8=("plugin", "plugin-codes"))
    write_recipe(replace(read_recipes(two)[two / "int8"], embed_plugin=True), two / "int8")
    write_sums(two)
    ran = Ran(two, tmp_path / "out", machine, 11, fault)
    assert ran.code == 0, ran.error
    build = read_passport(tmp_path / "out/net.engine.passport.json").build
    assert build.activation == "plugin" and "TensorRT: " in build.candidates[1].refused


def test_codes_of_parameters_per_channel(source, machine, tmp_path):
    need_libraries()
    graph = networks.Builder()
    many = {"lambda": [0.1 + 0.2 * i for i in range(networks.CHANNELS)], "kappa": [1.0]}
    x = graph.unit(graph.conv("x", 3, name="stem"), **many)
    onnx.save(with_functions(graph.model(graph.head(graph.conv(x)))), tmp_path / "net.onnx")
    shutil.copy(source / "c.npz", tmp_path)
    given = ["--format", "trt", "--precision", "int8", "--calibration", "c.npz", "--min-sqnr", "15"]
    assert export(tmp_path, tmp_path / "b", *given, "--activation", "plugin") == 0
    ran = Ran(tmp_path / "b", tmp_path / "out", machine, 11, "wrong:plugin")
    assert ran.code == 0, ran.error
    assert read_passport(tmp_path / "out/net.engine.passport.json").build.activation == "plugin-codes"


def test_codes_that_something_else_would_read_are_not_built(bundle, machine, tmp_path):
    """As TensorRT refuses the type: INT8 for a layer that takes floats."""
    home = of(bundle, tmp_path / "b", int8=("plugin-codes", "decomposed")) / "int8"
    model = onnx.load(home / "model.codes.onnx")
    codes = next(n.output[0] for n in model.graph.node if read_scale_out(n))
    dequantiser = next(n for n in model.graph.node if codes in n.input)
    for node in model.graph.node:
        node.input[:] = [codes if name == dequantiser.output[0] else name for name in node.input]
    onnx.save(model, home / "model.codes.onnx")
    write_sums(tmp_path / "b")
    given = ("--plugin", str(bundle / "plugin/libapa_trt.so"))
    ran = Ran(tmp_path / "b", tmp_path / "out", machine, 11, "", *given)
    assert ran.code == 0, ran.error
    assert "plugin-codes did not pass" in read_passport(tmp_path / "out/net.engine.passport.json").build.reason
    assert "does not take the INT8" in ran.error


def test_none_that_is_right_writes_nothing(bundle, machine, tmp_path):
    ran = Ran(of(bundle, tmp_path / "b", **CODES), tmp_path / "out", machine, 10, "wrong:fp16,wrong:fp8,wrong:int8")
    assert ran.code == FAILED and names(tmp_path / "out") == []
    assert all(f"{name}, activation decomposed: v13 is" in ran.last["error"] for name in CODES)


def test_gpu_without_fp8(bundle, machine, tmp_path, monkeypatch):
    """Left out of several, and recorded; alone, exit 3."""
    monkeypatch.setenv("STANDIN_CAPABILITY", "8.6")
    two = of(bundle, tmp_path / "two", fp16=("decomposed",), fp8=("decomposed",))
    ran = Ran(two, tmp_path / "out", machine)
    assert ran.code == 0, ran.error
    passport = read_passport(tmp_path / "out/net.engine.passport.json")
    assert passport.options["precision"] == "fp16"
    assert "compute capability 8.6 for fp8; wanted 8.9" in passport.build.candidates[1].refused
    ran = Ran(of(bundle, tmp_path / "one", fp8=("decomposed", "aot")), tmp_path / "out2", machine)
    assert ran.code == MISSING and "8.9 or later" in ran.last["error"]


def test_without_samples_fp16_alone(source, tmp_path, capsys):
    assert export(source, tmp_path / "b", *AUTO, "--activation", "decomposed") == 0
    assert "int8 is not tried: 8 bits need --calibration" in capsys.readouterr().err
    ((home, recipe),) = read_recipes(tmp_path / "b").items()
    assert home == tmp_path / "b" and recipe.precision == "fp16" and list(recipe.not_tried) == ["int8", "fp8"]


def test_precision_that_fails_its_gate_is_left_out(source, tmp_path, capsys):
    """99 dB are more than 8 bits have."""
    arguments = [*CALIBRATED[:-1], "99", "--activation", "decomposed"]
    assert export(source, tmp_path / "b", *arguments) == 0
    assert "int8 is not tried" in " ".join(capsys.readouterr().err.split())
    ((home, recipe),) = read_recipes(tmp_path / "b").items()
    assert home.name == "fp16" and "99 dB" in recipe.not_tried["fp8"]
    assert not (tmp_path / "b/int8").exists()


def test_weights_that_fp16_cannot_hold(source, tmp_path):
    model = onnx.load(source / "net.onnx")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, factor in (("a.weight", 1e6), ("b.weight", 1e-6)):
        scaled = onnx.numpy_helper.to_array(weights[name]) * np.float32(factor)
        weights[name].CopyFrom(onnx.numpy_helper.from_array(scaled, name))
    onnx.save(model, tmp_path / "net.onnx")
    shutil.copy(source / "c.npz", tmp_path)
    assert export(tmp_path, tmp_path / "b", *CALIBRATED, "--activation", "decomposed") == 0
    recipes = {home.name: recipe for home, recipe in read_recipes(tmp_path / "b").items()}
    assert list(recipes) == ["fp8", "int8"] and "fp16 cannot hold" in recipes["int8"].not_tried["fp16"]


def test_where_no_precision_passes_nothing_is_written(source, tmp_path, monkeypatch):
    def fail(*_):
        raise GateError("it is off", "parity", "Look at it.")

    monkeypatch.setattr("apa_exporters.tensorrt.bundle._write_candidates", fail)
    assert export(source, tmp_path / "b", *CALIBRATED) == 1
    assert names(tmp_path) == []


WRONG = [
    # what is typed, what the message says
    (["--precision", "auto"], "--precision auto with --format onnx; wanted --format trt"),
    (["--precision", "auto", "--format", "trt-rtx"], "--precision auto with --format trt-rtx; wanted --format trt"),
    ([*CALIBRATED, "--no-verify"], "--no-verify with --precision auto"),
    ([*AUTO, "--half-io"], "--half-io with --precision auto"),
    ([*CALIBRATED, "--half-io"], "--half-io with --precision auto"),
    ([*AUTO, "--keep-float", "a"], "--keep-float with --precision auto; wanted --calibration"),
    ([*AUTO, "--calibration", "none.npz", "--bundle", "b"], "no such file"),
]


@pytest.mark.parametrize(("typed", "says"), WRONG, ids=[" ".join(w[0][-2:]) for w in WRONG])
def test_misuse_exits_2_and_writes_nothing(typed, says, source, capsys, monkeypatch):
    monkeypatch.chdir(source)
    assert main(["net.onnx", *typed]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert names(source) == ["c.npz", "net.onnx"]


def test_one_command_where_a_gpu_is(source, machine, tmp_path, monkeypatch):
    for name, value in machine.variables(10, STANDIN_FAULTS="wrong:fp16,wrong:fp8").items():
        monkeypatch.setenv(name, value)
    arguments = " ".join(CALIBRATED).replace("c.npz", str(source / "c.npz"))
    given = f"{arguments} --activation decomposed --batch 2 --latency-runs 20 --json -o {tmp_path}/net.engine"
    done = exported([str(source / "net.onnx")], machine, given)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["options"]["precision"] == "int8" and made["quantisation"]["precision"] == "int8"
