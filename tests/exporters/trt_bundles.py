"""One bundle of a tiny network, and its script as a process of a machine that does not exist."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from apa_exporters.onnx.export import OnnxOptions
from apa_exporters.tensorrt.export import export_bundle
from apa_exporters.tensorrt.on_target.checksums import write_sums
from apa_exporters.tensorrt.on_target.recipe import read_recipe, write_recipe
from apa_exporters.tensorrt.options import TrtOptions

from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.native import LibraryError, aot_kernels, trt_plugin_library
from apa_deploy.network import Metadata, Network
from apa_deploy.tensors.signature import image_signature
from tests.networks import tiny_net
from tests.standin.machine import TARGET_ONLY, Machine

RUNS = 20
OPTIONS = TrtOptions(OnnxOptions(precision="fp16"), batches=(1, 2, 4), runs=RUNS)
EVERYTHING = {
    "workspace": 1 << 30,
    "optimization_level": 5,
    "version_compatible": True,
    "hardware_compatible": "AMPERE_PLUS",
    "strip_weights": True,
    "embed_plugin": True,
}


def digits() -> Network:
    return TorchNetwork(
        tiny_net(), image_signature((3, 16, 16)), Metadata("digits", source="digits.pth", sha256="0" * 64)
    )


def changed(bundle: Path, folder: Path, **options: object) -> Path:
    """A copy of the bundle with other options, whole again."""
    shutil.copytree(bundle, folder)
    write_recipe(replace(read_recipe(folder), **options), folder)
    write_sums(folder)
    return folder


class Ran:
    """The script's exit code, its last report, and what it called, as [name, *arguments]."""

    def __init__(
        self, bundle: Path, out: Path, machine: Machine, major: int = 10, faults: str = "", *arguments: str
    ):
        out.mkdir(exist_ok=True)
        calls = out / "calls"
        variables = machine.variables(major, STANDIN_FAULTS=faults, STANDIN_CALLS=str(calls))
        variables["PYTHONPATH"] = f"{TARGET_ONLY}{os.pathsep}{variables['PYTHONPATH']}"
        command = [sys.executable, "-P", str(bundle / "build.py"), "--reports", "-o", str(out), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables)
        self.code, self.error = done.returncode, done.stderr
        reports = [json.loads(line) for line in done.stdout.splitlines()]
        self.reports, self.last = reports, reports[-1] if reports else {}
        self.calls = [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []
        calls.unlink(missing_ok=True)

    def given(self, name: str) -> list[list[object]]:
        """The arguments of every call of a method, or values of an attribute."""
        return [call[1:] for call in self.calls if call[0] == name]


def limits_of(bundle: Path) -> dict[str, object]:
    return {name: asdict(limit) for name, limit in read_recipe(bundle).limits.items()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def exported(checkpoint: list[str], machine: Machine, arguments: str) -> subprocess.CompletedProcess[str]:
    """`apa-export` on a machine that has everything."""
    repository = Path(__file__).parents[2]
    variables = machine.variables(10)
    variables["PYTHONPATH"] += f"{os.pathsep}{repository}"
    command = [sys.executable, "-m", "apa_exporters.cli", *checkpoint, *arguments.split()]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | variables)


def need_libraries() -> None:
    """Skip what has a bundle where the plugin or its kernels are not built."""
    try:
        trt_plugin_library()
        aot_kernels()
    except LibraryError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    need_libraries()
    folder = tmp_path_factory.mktemp("bundle") / "b"
    export_bundle(digits(), folder, "model.engine", OPTIONS)
    return folder
