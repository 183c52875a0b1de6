"""apa_exporters.tensorrt: the script of a bundle on a machine that stands in for one with a GPU and TensorRT.

The stand-in checks every call against the real package's types (tests/standin). What it cannot show: that TensorRT
builds what it is asked for, and what a real GPU computes.
"""

import json

import onnx
import pytest
from apa_exporters.tensorrt.export import _build
from apa_exporters.tensorrt.on_target.checksums import write_sums
from apa_exporters.tensorrt.on_target.recipe import read_recipe
from apa_exporters.tensorrt.on_target.refusal import FAILED, MISSING
from apa_exporters.tensorrt.on_target.trial import A_BLOCK

from apa_deploy.child_process import ChildError
from apa_deploy.graph.kernels import fold_kernel
from apa_deploy.records.parity import ParityError
from apa_deploy.records.passport import read_passport
from apa_deploy.runtimes.cuda_driver import device_count
from tests.exporters.trt_bundles import EVERYTHING, OPTIONS, Ran, changed, names
from tests.standin.machine import MAJORS

pytestmark = pytest.mark.skipif(device_count() > 0, reason="a real GPU would answer in the stand-in's place")


@pytest.mark.parametrize("major", MAJORS)
def test_every_option_reaches_the_builder(major, bundle, machine, tmp_path):
    """Up to the first call that a device must answer."""
    folder = changed(bundle, tmp_path / "b", models={"plugin": "model.custom.onnx"}, **EVERYTHING)
    ran = Ran(folder, tmp_path / "out", machine, major, "stop", "--timing-cache", str(tmp_path / "t.cache"))
    assert "DeviceReached: build_serialized_network" in ran.error
    last, *after = [name for name, *_ in ran.calls[-3:]]
    assert last == "Builder.build_serialized_network" and after[-1] == "IPluginRegistry.deregister_library"
    flags = {given for (given,) in ran.given("IBuilderConfig.set_flag")}
    assert flags in (
        {"BuilderFlag.VERSION_COMPATIBLE", "BuilderFlag.STRIP_PLAN"},
        {"BuilderFlag.VERSION_COMPATIBLE", "BuilderFlag.WEIGHTLESS"},  # its other name in TensorRT 10
    )
    assert ran.given("IBuilderConfig.clear_flag") == [["BuilderFlag.TF32"]]
    assert ran.given("IBuilderConfig.set_memory_pool_limit") == [["MemoryPoolType.WORKSPACE", 1 << 30]]
    assert ran.given("IBuilderConfig.builder_optimization_level") == [[5]]
    assert ran.given("IBuilderConfig.hardware_compatibility_level") == [["HardwareCompatibilityLevel.AMPERE_PLUS"]]
    assert ran.given("IBuilderConfig.profiling_verbosity") == [["ProfilingVerbosity.DETAILED"]]
    assert ran.given("IBuilderConfig.plugins_to_serialize") == [[[str(folder / "plugin/libapa_trt.so")]]]
    assert ran.given("IBuilderConfig.progress_monitor") == [["Monitor"]]
    assert ran.given("IPluginRegistry.load_library") == [[str(folder / "plugin/libapa_trt.so")]]
    shapes = [[1, 3, 16, 16], [2, 3, 16, 16], [4, 3, 16, 16]]
    assert ran.given("IOptimizationProfile.set_shape") == [["input", *shapes]]
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("major", MAJORS)
def test_script_builds_judges_times_and_records(major, bundle, machine, tmp_path):
    ran = Ran(bundle, tmp_path / "out", machine, major)
    assert ran.code == 0, ran.error
    assert names(tmp_path / "out") == ["model.engine", "model.engine.passport.json"]
    passport = read_passport(tmp_path / "out/model.engine.passport.json")
    build = passport.build
    assert (passport.format, build.executed, build.batches) == ("trt", True, (1, 2, 4))
    assert build.builder.startswith(f"tensorrt {major}.")
    assert build.gpu == {"name": "Stand-in GPU", "capability": "8.9", "cuda": 13000}
    assert passport.outputs[0].bytes == (tmp_path / "out/model.engine").stat().st_size
    assert build.activation in build.reason
    assert [candidate.activation for candidate in build.candidates] == ["decomposed", "aot", "plugin"]
    for candidate in build.candidates:  # 3 builds of each, 3 sizes
        sizes = {size: len(samples) for size, samples in candidate.latency_by_size.items()}
        assert candidate.passed and sizes == dict.fromkeys(("least", "usual", "largest"), 3 * A_BLOCK)
    assert [candidate.launches.get("PluginV3", 0) for candidate in build.candidates] == [0, 3, 3]
    assert passport.parity.outputs[-1].runner == f"TensorRT on Stand-in GPU, activation {build.activation}"
    assert {"Building engine", "Tactics"} == {report["phase"] for report in ran.reports if "steps" in report}


FAULTS = [
    ("nocreator", "decomposed", "plugin did not pass"),
    ("refused:decomposed", "plugin", "decomposed did not pass"),
]


@pytest.mark.parametrize(("faults", "kept", "reason"), FAULTS, ids=[c[0] for c in FAULTS])
def test_engine_that_is_kept(faults, kept, reason, bundle, machine, tmp_path):
    models = {name: file for name, file in read_recipe(bundle).models.items() if name != "aot" or kept == "aot"}
    ran = Ran(changed(bundle, tmp_path / "b", models=models), tmp_path / "out", machine, 10, faults)
    assert ran.code == 0, ran.error
    build = read_passport(tmp_path / "out/model.engine.passport.json").build
    assert build.activation == kept
    assert build.reason.startswith(reason)
    assert (build.plugin is not None) == (kept == "plugin") and build.in_precision is True


AOT = {"models": {"aot": "model.aot.onnx"}}


@pytest.mark.parametrize("major", MAJORS)
def test_kernels_inside_the_plan(major, bundle, machine, tmp_path):
    """NVIDIA's own code checks and calls the plugins; the stand-in computes by the coefficients in their PTX."""
    ran = Ran(changed(bundle, tmp_path / "b", **AOT), tmp_path / "out", machine, major)
    assert ran.code == 0, ran.error
    passport = read_passport(tmp_path / "out/model.engine.passport.json")
    build = passport.build
    assert (build.activation, build.plugin, build.launches["PluginV3"]) == ("aot", None, 3)
    assert build.ptx == {"version": "6.3", "driver": "CUDA 10.0 or later"}
    assert not passport.needs_plugin and not passport.has_host_code
    content = (tmp_path / "out/model.engine").read_bytes()
    kernels = json.loads(content.removeprefix(b"STANDIN").split(b"\n", 1)[0])["kernels"]
    layers = json.loads((bundle / "aot/layers.json").read_text())
    assert len(kernels) == len(layers) == 3
    for kernel in kernels.values():
        for (grid, block, count), batch in zip(kernel["launches"], (1, 2, 4), strict=True):
            assert count == batch * 3 * 16 * 16 and block == 256
            assert grid == count // (256 * 2 * 8) + 1  # two packs of eight halves a thread


def test_coefficients_of_another_layer_are_seen(bundle, machine, tmp_path):
    folder = changed(bundle, tmp_path / "b", **AOT)
    layers = json.loads((folder / "aot/layers.json").read_text())
    other = fold_kernel("AGLU", 0.7, -0.9)
    layers[0] |= {"regime": other.regime, "coefficients": other.coefficients.hex()}
    (folder / "aot/layers.json").write_text(json.dumps(layers))
    write_sums(folder)
    ran = Ran(folder, tmp_path / "out", machine)
    assert ran.code == FAILED and "logits is" in ran.last["error"]


def test_parser_that_finds_no_python_plugin_is_seen(bundle, machine, tmp_path):
    """The name alone, of an operator that was not registered: as a parser that takes a node for something else."""
    folder = changed(bundle, tmp_path / "b", **AOT)
    model = onnx.load(folder / "model.aot.onnx")
    next(node for node in model.graph.node if node.domain == "com.apa").op_type = "APAKernel2"
    onnx.save(model, folder / "model.aot.onnx")
    write_sums(folder)
    ran = Ran(folder, tmp_path / "out", machine)
    assert ran.code == FAILED and "2 plugin layers of 3 com.apa nodes" in ran.last["error"]


def test_plugin_layers_of_others_do_not_stand_for_ours(bundle, machine, tmp_path):
    """The parser makes some of ScatterElements; here as many as there are com.apa nodes, whose bodies it takes."""
    folder = changed(bundle, tmp_path / "b", models={"plugin": "model.custom.onnx"})
    model = onnx.load(folder / "model.custom.onnx")
    x = model.graph.input[0].name
    for name in "abc":
        zeros = [
            onnx.helper.make_tensor(f"{name}_{t}", kind, (1, 1, 1, 1), [0]) for t, kind in (("at", 7), ("of", 1))
        ]
        model.graph.initializer.extend(zeros)
        inputs = [x, *(zero.name for zero in zeros)]
        model.graph.node.append(onnx.helper.make_node("ScatterElements", inputs, [name], name=name))
    onnx.save(model, folder / "model.custom.onnx")
    write_sums(folder)
    ran = Ran(folder, tmp_path / "out", machine, 10, "nocreator")
    assert ran.code == FAILED and "no plugin layer of 3 com.apa nodes" in ran.last["error"]


@pytest.mark.parametrize("slow", ["plugin", "aot"])
def test_slower_candidate_is_never_kept(slow, bundle, machine, tmp_path):
    """Which of the others is, no busy machine tells for certain: tests of the choice do, on recorded samples."""
    models = {name: file for name, file in read_recipe(bundle).models.items() if name in ("decomposed", slow)}
    folder = changed(bundle, tmp_path / "b", models=models)
    ran = Ran(folder, tmp_path / "out", machine, 10, f"slow:{slow}")
    assert ran.code == 0, ran.error
    build = read_passport(tmp_path / "out/model.engine.passport.json").build
    assert build.activation == "decomposed" and build.reason.startswith("decomposed is ")


def test_types_that_cannot_be_read_cannot_be_judged(bundle, machine, tmp_path):
    ran = Ran(bundle, tmp_path / "out", machine, 10, "untyped")
    assert ran.code == FAILED and names(tmp_path / "out") == []
    assert "cannot be judged" in ran.last["error"] and "an engine in fp16" in ran.last["error"]
    allowed = changed(bundle, tmp_path / "allowed", allow_unknown_precision=True)
    ran = Ran(allowed, tmp_path / "out", machine, 10, "untyped")
    assert ran.code == 0 and any("is unknown" in line for line in ran.last["result"]["said"])
    assert read_passport(tmp_path / "out/model.engine.passport.json").build.in_precision is None


def test_nothing_right_writes_nothing(bundle, machine, tmp_path):
    two = {name: file for name, file in read_recipe(bundle).models.items() if name != "aot"}
    ran = Ran(
        changed(bundle, tmp_path / "b", models=two), tmp_path / "out", machine, 10, "wrong:plugin,fp32:decomposed"
    )
    assert ran.code == FAILED
    assert "logits is 5.0e-01 off" in ran.last["error"]
    assert "wanted an engine in fp16" in ran.last["error"]
    assert [check["passed"] for check in ran.last["checks"]] == [True, False]
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("major", MAJORS)
def test_stripped_and_embedded_engine_runs(major, bundle, machine, tmp_path):
    """Refitted before it runs; the plugin comes out of the engine, and out of nowhere else. Such an engine is built
    version-compatible."""
    folder = changed(
        bundle, tmp_path / "b", models={"plugin": "model.custom.onnx"}, strip_weights=True, embed_plugin=True
    )
    cache = tmp_path / "t.cache"
    ran = Ran(folder, tmp_path / "out", machine, major, "", "--timing-cache", str(cache))
    assert ran.code == 0, ran.error
    assert ran.given("OnnxParserRefitter.refit_from_file") == [[str(folder / "model.custom.onnx")]]
    assert ran.given("IPluginRegistry.deregister_library")
    assert ["BuilderFlag.VERSION_COMPATIBLE"] in ran.given("IBuilderConfig.set_flag")
    assert read_passport(tmp_path / "out/model.engine.passport.json").build.activation == "plugin"
    assert cache.read_bytes() == b"timed\n"


OLD_DRIVER = "libapa_trt.so is built with CUDA 13, and the driver serves CUDA 12.8"


def test_only_the_engine_with_the_plugin_inside_is_version_compatible(bundle, machine, tmp_path):
    two = {name: file for name, file in read_recipe(bundle).models.items() if name != "aot"}
    folder = changed(bundle, tmp_path / "b", models=two, embed_plugin=True)
    ran = Ran(folder, tmp_path / "out", machine, 10, "slow:plugin")
    assert ran.code == 0, ran.error
    assert ran.given("IBuilderConfig.set_flag") == [["BuilderFlag.VERSION_COMPATIBLE"]] * 3  # of six builds
    assert not read_passport(tmp_path / "out/model.engine.passport.json").has_host_code


def test_weights_that_do_not_go_back_are_told(bundle, machine, tmp_path):
    """Of another file than the engine was built from: what it lacks is named by nothing else."""
    one = {"models": {"decomposed": "model.onnx"}, "strip_weights": True}
    folder = changed(bundle, tmp_path / "b", **one)
    ran = Ran(folder, tmp_path / "out", machine, 10, "lost weights")
    assert ran.code == FAILED and "the weights do not go back into the engine" in ran.last["error"]
    assert names(tmp_path / "out") == []


def test_plugin_of_a_newer_cuda_is_never_silently_left_out(bundle, machine, tmp_path, monkeypatch):
    """An older driver with TensorRT for CUDA 12: said before the build, and recorded; alone, exit 3."""
    monkeypatch.setenv("STANDIN_CUDA", "12080")
    two = {name: file for name, file in read_recipe(bundle).models.items() if name != "aot"}
    ran = Ran(changed(bundle, tmp_path / "two", models=two), tmp_path / "out", machine)
    assert ran.code == 0, ran.error
    said = [report["say"] for report in ran.reports if "say" in report]
    assert OLD_DRIVER in said[0] and "r580" in said[0] and said[1].startswith("building")
    build = read_passport(tmp_path / "out/model.engine.passport.json").build
    assert build.activation == "decomposed" and "plugin did not pass" in build.reason
    assert OLD_DRIVER in build.candidates[1].refused and OLD_DRIVER in " ".join(ran.last["result"]["said"])
    alone = changed(bundle, tmp_path / "alone", models={"plugin": "model.custom.onnx"})
    ran = Ran(alone, tmp_path / "out2", machine)
    assert ran.code == MISSING and OLD_DRIVER in ran.last["error"]


def test_activation_that_was_not_tried_is_recorded(bundle, machine, tmp_path):
    one = {"models": {"decomposed": "model.onnx"}, "not_tried": {"plugin": "it is not built"}}
    ran = Ran(changed(bundle, tmp_path / "b", **one), tmp_path / "out", machine)
    reason = read_passport(tmp_path / "out/model.engine.passport.json").build.reason
    assert ran.code == 0 and reason == "the only one tried; plugin not tried: it is not built"


def test_wrong_engine_is_a_parity_error(bundle, machine, tmp_path, monkeypatch):
    """What the child refuses becomes the error that `apa-export` knows: exit 1, and its report on `--json`."""
    for name, value in machine.variables(10, STANDIN_FAULTS="wrong:decomposed").items():
        monkeypatch.setenv(name, value)
    folder = changed(bundle, tmp_path / "b", models={"decomposed": "model.onnx"})
    passport = read_passport(folder / "passport.json")
    with pytest.raises(ParityError, match=r"logits is 5\.0e-01 off \(TensorRT on Stand-in GPU") as caught:
        _build(folder, tmp_path, passport, OPTIONS)
    assert not caught.value.report.passed
    assert passport.parity.passed


def test_builder_that_dies_is_an_error_with_its_last_lines(bundle, machine, tmp_path, monkeypatch):
    for name, value in machine.variables(10, STANDIN_FAULTS="die").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ChildError, match="SIGABRT"):
        _build(bundle, tmp_path, read_passport(bundle / "passport.json"), OPTIONS)
