"""apa_exporters.tensorrt: bundles; their script on a machine that stands in for one with a GPU and TensorRT.

The stand-in checks every call against the real package's types (tests/standin). What it cannot show: that TensorRT
builds what it is asked for, and what a real GPU computes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from apa_exporters.onnx.sizes import check_profile
from apa_exporters.tensorrt.bundle import profile, trtexec_lines
from apa_exporters.tensorrt.export import _build, export_bundle
from apa_exporters.tensorrt.on_target.checksums import write_sums
from apa_exporters.tensorrt.on_target.recipe import read_recipe
from apa_exporters.tensorrt.on_target.refusal import FAILED, MISSING, MISUSE
from apa_exporters.tensorrt.on_target.trial import A_BLOCK
from apa_exporters.tensorrt.options import TrtOptions
from apa_exporters.tensorrt.trtexec import load_line

from apa_deploy.child_process import ChildError
from apa_deploy.errors import InputError
from apa_deploy.graph.kernels import fold_kernel
from apa_deploy.native import trt_plugin_library
from apa_deploy.records.parity import ParityError
from apa_deploy.records.passport import EngineBuild, file_record, read_passport
from apa_deploy.runtimes.cuda_driver import device_count
from tests.exporters.trt_bundles import OPTIONS, Ran, changed, digits, names, need_libraries
from tests.standin.machine import MAJORS

pytestmark = pytest.mark.skipif(device_count() > 0, reason="a real GPU would answer in the stand-in's place")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    need_libraries()
    folder = tmp_path_factory.mktemp("bundle") / "b"
    export_bundle(digits(), folder, "model.engine", OPTIONS)
    return folder


WHOLE = [
    "README.md", "SHA256SUMS", "aot", "apa_target", "build.py", "golden", "model.aot.onnx", "model.custom.onnx",
    "model.onnx", "passport.json", "plugin", "recipe.json",
]  # fmt: skip


def test_bundle_is_whole(bundle):
    assert names(bundle) == WHOLE
    assert names(bundle / "plugin") == ["build_plugin.sh", "libapa_trt.so", "src"]
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=bundle, check=True)
    listed = {line.split("  ")[1] for line in (bundle / "SHA256SUMS").read_text().splitlines()}
    present = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert listed == present - {"SHA256SUMS"}


def test_models_are_of_both_kinds_and_judged(bundle):
    domains = [
        {node.domain for node in onnx.load(bundle / name).graph.node}
        for name in ("model.onnx", "model.custom.onnx")
    ]
    assert "com.apa" not in domains[0]
    assert "com.apa" in domains[1]
    passport = read_passport(bundle / "passport.json")
    assert passport.parity.passed
    assert {"ONNX Runtime", "ONNX Runtime, com.apa"} <= {check.runner for check in passport.parity.outputs}
    assert [record.name for record in passport.outputs] == ["model.onnx", "model.custom.onnx", "model.aot.onnx"]


def test_bundle_tells_nothing_of_this_machine(bundle):
    for path in bundle.rglob("*"):
        if path.is_file():
            assert str(Path.cwd()).encode() not in path.read_bytes(), path


def test_golden_inputs_are_of_the_usual_batch(bundle):
    with np.load(bundle / "golden/inputs.npz") as inputs, np.load(bundle / "golden/float64.npz") as truth:
        assert {array.shape for array in inputs.values()} == {(2, 3, 16, 16)}
        assert {array.dtype for array in truth.values()} == {np.dtype(np.float64)}


EVERYTHING = {
    "workspace": 1 << 30,
    "optimization_level": 5,
    "version_compatible": True,
    "hardware_compatible": "AMPERE_PLUS",
    "strip_weights": True,
    "embed_plugin": True,
}


@pytest.mark.parametrize("major", MAJORS)
def test_every_option_reaches_the_builder(major, bundle, machine, tmp_path):
    """Up to the first call that a device must answer."""
    folder = changed(bundle, tmp_path / "b", models={"plugin": "model.custom.onnx"}, **EVERYTHING)
    ran = Ran(folder, tmp_path / "out", machine, major, "stop", "--timing-cache", str(tmp_path / "t.cache"))
    assert "DeviceReached: build_serialized_network" in ran.error
    assert ran.calls[-1][0] == "Builder.build_serialized_network"
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


def test_stripped_and_embedded_engine_runs(bundle, machine, tmp_path):
    """Refitted before it runs; the plugin comes out of the engine, and out of nowhere else."""
    folder = changed(
        bundle, tmp_path / "b", models={"plugin": "model.custom.onnx"}, strip_weights=True, embed_plugin=True
    )
    cache = tmp_path / "t.cache"
    ran = Ran(folder, tmp_path / "out", machine, 10, "", "--timing-cache", str(cache))
    assert ran.code == 0, ran.error
    assert ran.given("OnnxParserRefitter.refit_from_file") == [[str(folder / "model.custom.onnx")]]
    assert ran.given("IPluginRegistry.deregister_library")
    assert cache.read_bytes() == b"timed\n"


def test_changed_file_is_refused_before_anything_else(bundle, tmp_path):
    folder = tmp_path / "b"
    shutil.copytree(bundle, folder)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    done = subprocess.run([sys.executable, folder / "build.py"], capture_output=True, text=True)
    assert done.returncode == MISUSE
    assert "model.onnx was changed" in done.stderr
    assert names(tmp_path) == ["b"]


def test_script_says_what_is_missing(bundle, machine, tmp_path):
    """This machine has no driver; the stand-in's may have no GPU."""
    done = subprocess.run([sys.executable, bundle / "build.py"], capture_output=True, text=True)
    assert done.returncode == MISSING
    assert "the package tensorrt, the NVIDIA driver" in done.stderr
    variables = machine.variables(10, STANDIN_NO_GPU="1")
    done = subprocess.run(
        [sys.executable, bundle / "build.py"], capture_output=True, text=True, env=os.environ | variables
    )
    assert done.returncode == MISSING
    assert "this machine lacks a GPU" in done.stderr


def test_engine_that_exists_is_not_replaced(bundle, machine, tmp_path):
    (tmp_path / "model.engine").write_text("mine")
    ran = Ran(bundle, tmp_path, machine)
    assert (ran.code, (tmp_path / "model.engine").read_text()) == (MISUSE, "mine")
    assert "--force" in ran.last["error"]


def test_plugin_script_compiles_what_the_bundle_holds(bundle, tmp_path):
    """With a compiler that says what it was given; the real one takes a quarter of a minute."""
    compiler = tmp_path / "nvcc"
    compiler.write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$@"\n')
    compiler.chmod(0o755)
    headers = tmp_path / "trt" / "include"
    headers.mkdir(parents=True)
    for name in ("NvInferRuntime.h", "NvInferPluginBase.h"):
        (headers / name).touch()
    variables = os.environ | {"NVCC": str(compiler), "ARCH": "sm_89", "TENSORRT_ROOT": str(headers.parent)}
    command = ["sh", str(bundle / "plugin/build_plugin.sh"), "my.so"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=variables).stdout
    where, *given = said.splitlines()
    sources = [Path(where) / name for name in given if name.endswith((".cc", ".cu"))]
    assert len(sources) == 10
    assert all(source.is_file() for source in sources)
    assert given[given.index("-o") + 1] == str(tmp_path / "my.so")
    assert "-arch=sm_89" in given and given[given.index("-isystem") + 1] == str(headers)
    # pip's TensorRT has no headers: they are fetched, pinned and checked, where they may be
    variables |= {"TENSORRT_ROOT": "", "APA_NO_FETCH": "1", "APA_FETCH_CACHE": str(tmp_path / "none")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables)
    assert done.returncode == MISSING and "kernel-lens==2.0.1 is not here" in done.stderr


def test_trtexec_lines(bundle):
    plain, plugin, why, why_not = trtexec_lines(read_recipe(bundle))
    assert "--onnx=model.onnx" in plain
    assert "--dynamicPlugins" not in plain
    assert "--minShapes=input:1x3x16x16 --optShapes=input:2x3x16x16 --maxShapes=input:4x3x16x16" in plugin
    assert "--dynamicPlugins=plugin/libapa_trt.so" in plugin
    assert "--staticPlugins would only open" in why
    assert "cannot build activation aot" in why_not
    assert plain in (bundle / "README.md").read_text()


def test_trtexec_line_of_a_model_of_fixed_sizes_has_no_shapes(bundle, tmp_path):
    """trtexec refuses shapes for an input whose sizes the model fixes."""
    assert read_recipe(bundle).open_inputs == ["input"]
    recipe = read_recipe(changed(bundle, tmp_path / "b", open_inputs=[]))
    assert not any("Shapes=" in line for line in trtexec_lines(recipe))


OLD_DRIVER = "libapa_trt.so is built with CUDA 13, and the driver serves CUDA 12.8"


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


def test_trtexec_line_with_every_option(bundle, tmp_path):
    recipe = read_recipe(changed(bundle, tmp_path / "b", **EVERYTHING))
    line = trtexec_lines(recipe)[1]
    for option in (
        "--stronglyTyped", "--noTF32", f"--memPoolSize=workspace:{1 << 30}B", "--builderOptimizationLevel=5",
        "--versionCompatible", "--hardwareCompatibilityLevel=ampere+", "--stripWeights",
        "--setPluginsToSerialize=plugin/libapa_trt.so",
    ):  # fmt: skip
        assert option in line


@pytest.mark.parametrize(("plugin", "embedded"), [(True, False), (True, True), (False, False)])
def test_trtexec_line_to_run_an_engine(plugin, embedded, bundle):
    passport = read_passport(bundle / "passport.json")
    made = {"activation": "plugin", "plugin": file_record(bundle / "plugin/libapa_trt.so") if plugin else None}
    passport.build = EngineBuild.model_construct(**made)
    passport.options["embed_plugin"] = embedded
    line = load_line(Path("my model.engine"), passport)
    assert line.startswith("trtexec '--loadEngine=my model.engine'")
    assert (f"--dynamicPlugins={trt_plugin_library()}" in line) == (plugin and not embedded)
    assert ("--versionCompatible" in line) == (plugin and embedded)  # where decomposed was kept, nothing is inside


def test_shapes_that_the_network_fixes_are_refused(bundle):
    model = onnx.load(bundle / "model.onnx")
    shapes = profile(TrtOptions(images=((3, 8, 8), (3, 16, 16), (3, 32, 16))), digits().signature, {})
    check_profile(shapes, model)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 16
    with pytest.raises(InputError, match=r"axis 2 of input from 8 to 32; wanted 16"):
        check_profile(shapes, model)


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
