"""Repositories of every kind, made by the command once; and the real server that they are for."""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "docker"))
sys.path.insert(0, str(Path(__file__).parents[2] / "serving"))

from networks import tiny_net
from serving_models import small_model, write_passport
from triton_repositories import engine, exported

from benchmarks.tritonserver import NoPythonError, environment


@pytest.fixture(scope="session")
def act(tmp_path_factory) -> Path:
    """An artifact with fused nodes; its passport is there."""
    path = small_model(tmp_path_factory.mktemp("act") / "act.onnx")
    write_passport(path)
    return path


@pytest.fixture(scope="session")
def repositories(tmp_path_factory, act) -> dict[str, Path]:
    """One repository of every backend around the same network, its name the backend's."""
    folder = tmp_path_factory.mktemp("repositories")
    batch = ("--batch", "1:4:8")
    return {
        "onnxruntime": exported(act, folder / "o", "--name", "onnxruntime", *batch, "--threads", 1),
        "python": exported(act, folder / "p", "--name", "python", "--backend", "python", *batch, "--threads", 1),
        "tensorrt": exported(engine(folder), folder / "t", "--name", "tensorrt"),
    }


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """An ensemble, straight from a checkpoint."""
    folder = tmp_path_factory.mktemp("pictures")
    torch.save(tiny_net().state_dict(), folder / "tiny.pth")
    (folder / "labels.txt").write_text("ant\nbee\ncow\ndog\neel\n")
    network = ("--model", "networks:tiny_net", "--input-shape", "3x32x32", "--preprocess", "imagenet")
    more = ("--labels", folder / "labels.txt", "--ensemble", "--name", "pics", "--batch", "1:2:4", "--threads", 1)
    return exported(folder / "tiny.pth", folder / "pics", *network, *more)


@pytest.fixture(scope="session")
def triton_environment() -> Path:
    """Where the real server is installed. Without a Python for it: a failure in CI, else the reason to skip."""
    try:
        return environment()
    except NoPythonError as error:
        if os.environ.get("CI"):
            pytest.fail(f"the real tritonserver must run in CI: {error}")
        pytest.skip(str(error))
