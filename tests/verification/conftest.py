"""A tiny trained network and its exports, made once."""

import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch
from apa_exporters.onnx.export import OnnxOptions, export_onnx

from apa_deploy.cli.verify import main
from apa_deploy.loading.load import load
from apa_deploy.verification.limits import Given
from apa_deploy.verification.run import Options, verify_candidates
from apa_deploy.verification.source import Loading, source_of
from tests.conftest import use_this_process
from tests.networks import tiny_net

FACTORY = "tests.networks:tiny_net"
SHAPE = (3, 16, 16)
EXPORTS = {
    "plain.onnx": ("onnx", "fp32"),
    "fused.onnx": ("onnx-custom", "fp32"),
    "half.onnx": ("onnx", "fp16"),
    "brain.onnx": ("onnx-custom", "bf16"),
}


@pytest.fixture(scope="session")
def exports(tmp_path_factory) -> Path:
    """A folder with model.pth and EXPORTS; read it, do not write into it."""
    folder = tmp_path_factory.mktemp("exports")
    torch.save(tiny_net().state_dict(), folder / "model.pth")
    model = load(folder / "model.pth", model=FACTORY, input_shape=SHAPE)
    traced = model.trace(22)
    with pytest.MonkeyPatch.context() as patch:  # one trace serves all formats
        patch.setattr(model, "trace", lambda *_: traced)
        for name, (form, precision) in EXPORTS.items():
            export_onnx(model, folder / name, OnnxOptions(format=form, precision=precision, opset=22))
    return folder


@pytest.fixture(scope="session")
def told(exports, tmp_path_factory) -> SimpleNamespace:
    """One run of the verb, with all that it can leave behind: `code`, `out`, and files in `folder`."""
    folder, out = tmp_path_factory.mktemp("told"), StringIO()
    given = [
        str(exports / "model.pth"),
        str(exports / "plain.onnx"),
        "--model",
        FACTORY,
        "--input-shape",
        "3x16x16",
    ]
    files = [("--save-outputs", "outputs.json"), ("--save-inputs", "inputs.json"), ("--report", "page.json")]
    with redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        use_this_process(patch)
        code = main(
            [*given, "--per-layer", *(text for option, name in files for text in (option, str(folder / name)))]
        )
    return SimpleNamespace(code=code, out=out.getvalue(), folder=folder)


@pytest.fixture
def mine(exports, tmp_path) -> Path:
    """A copy of the folder, to spoil."""
    return Path(shutil.copytree(exports, tmp_path / "mine"))


def verify(reference, *candidates, limits=None, **options):
    """`verify_candidates` in this process, for the tiny network."""
    loading = Loading(arguments={"model": FACTORY}, input_shape=SHAPE)
    limits = Given(**(limits or {}))
    chosen = {"loading": loading, "limits": limits, "isolate": False} | options
    return verify_candidates(source_of(str(reference)), [source_of(str(c)) for c in candidates], Options(**chosen))


def edited(path, change):
    """The ONNX file at `path`, changed in place by `change(model)`."""
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def initializer(model, begins):
    """The first constant whose name begins so."""
    return next(t for t in model.graph.initializer if t.name.startswith(begins))


def set_initializer(model, begins, change):
    """Replace a constant by `change(array)`."""
    tensor = initializer(model, begins)
    array = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(change(array).astype(array.dtype), tensor.name))
