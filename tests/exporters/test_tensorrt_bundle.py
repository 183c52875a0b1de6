"""apa_exporters.tensorrt: what a bundle holds, and what its script refuses before it builds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from apa_exporters.onnx.sizes import check_profile
from apa_exporters.tensorrt.bundle import profile
from apa_exporters.tensorrt.on_target.refusal import FAILED, MISSING, MISUSE
from apa_exporters.tensorrt.options import TrtOptions

from apa_deploy.errors import InputError
from apa_deploy.records.passport import read_passport
from apa_deploy.runtimes.cuda_driver import device_count
from tests.exporters.trt_bundles import Ran, changed, digits, names

pytestmark = pytest.mark.skipif(device_count() > 0, reason="a real GPU would answer in the stand-in's place")


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
    assert len(sources) == 11
    assert all(source.is_file() for source in sources)
    assert given[given.index("-o") + 1] == str(tmp_path / "my.so")
    assert "-arch=sm_89" in given and given[given.index("-isystem") + 1] == str(headers)
    # pip's TensorRT has no headers: they are fetched, pinned and checked, where they may be
    variables |= {"TENSORRT_ROOT": "", "APA_NO_FETCH": "1", "APA_FETCH_CACHE": str(tmp_path / "none")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables)
    assert done.returncode == MISSING and "kernel-lens==2.0.1 is not here" in done.stderr


def test_shapes_that_the_network_fixes_are_refused(bundle):
    model = onnx.load(bundle / "model.onnx")
    shapes = profile(TrtOptions(images=((3, 8, 8), (3, 16, 16), (3, 32, 16))), digits().signature, {})
    check_profile(shapes, model)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 16
    with pytest.raises(InputError, match=r"axis 2 of input from 8 to 32; wanted 16"):
        check_profile(shapes, model)


def test_plugin_of_an_older_bundle(bundle, machine, tmp_path):
    source, library = tmp_path / "old.c", tmp_path / "old.so"
    source.write_text("void* getCreators(int* count) { *count = 2; return 0; }")
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    folder = changed(bundle, tmp_path / "b", models={"plugin": "model.custom.onnx"})
    ran = Ran(folder, tmp_path / "out", machine, 10, "", "--plugin", str(library))
    assert ran.code == MISSING and "old.so has no APACodes, AGLUCodes" in ran.last["error"], ran.error
    assert ran.calls[-1][0] == "IPluginRegistry.deregister_library"


def test_gpu_without_room(bundle, machine, tmp_path, monkeypatch):
    monkeypatch.setenv("STANDIN_NO_ROOM", "1")
    folder = changed(bundle, tmp_path / "b", models={"decomposed": "model.onnx"})
    ran = Ran(folder, tmp_path / "out", machine)
    assert ran.code == FAILED and "too little memory for all engines" in ran.last["error"], ran.error
