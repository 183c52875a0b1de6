"""A model's signature, configuration and warm-up."""

import asyncio
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from serving_models import mixing_model, small_model, write_passport

from apa_deploy.errors import InputError
from apa_deploy.serving.classification import best_classes
from apa_deploy.serving.errors import RequestError
from apa_deploy.serving.layout import scan
from apa_deploy.serving.model import Model, _sample_shape, load_model
from apa_deploy.serving.model_config import ModelConfig
from apa_deploy.serving.request import WantedOutput
from apa_deploy.serving.signature import RequestSignature, signature_from_onnx
from apa_deploy.serving.statistics import Statistics
from apa_deploy.serving.warmup import sample
from apa_deploy.tensors.signature import TensorSpec


def loaded(source, **settings):
    artifact = next(iter(scan(source, ModelConfig(**settings))["m"].artifacts.values()))
    return load_model(artifact, threads=1, providers=None)


def with_config(tmp_path, text, **small):
    small_model(tmp_path / "m" / "1" / "model.onnx", **small)
    (tmp_path / "m" / "config.pbtxt").write_text(text)
    return tmp_path


SHAPES = [
    ("named batch", ("N", 4), 8),
    ("fixed batch", (2, 4), 0),
    ("open everywhere", ("N", "M"), 8),
    ("a vector", ("N",), 8),
]


@pytest.mark.parametrize(("shape", "batch"), [c[1:] for c in SHAPES], ids=[c[0] for c in SHAPES])
def test_batching_follows_the_file(tmp_path, shape, batch):
    model = onnx.load(small_model(tmp_path / "m.onnx", shape=shape))
    assert signature_from_onnx(model, 8).max_batch == batch


def test_a_file_without_a_usable_datatype(tmp_path):
    model = onnx.load(small_model(tmp_path / "m.onnx"))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.BFLOAT16
    with pytest.raises(InputError, match="BFLOAT16"):
        signature_from_onnx(model, 8)


REQUESTS = [
    ("fits", {"x": np.zeros((3, 4), np.float32)}, 3),
    ("full", {"x": np.zeros((8, 4), np.float32)}, 8),
    ("too many rows", {"x": np.zeros((9, 4), np.float32)}, "a batch of 9"),
    ("another dtype", {"x": np.zeros((3, 4))}, "FP64"),
    ("another size", {"x": np.zeros((3, 5), np.float32)}, "shape"),
    ("another rank", {"x": np.zeros((3, 4, 1), np.float32)}, "shape"),
    ("another name", {"z": np.zeros((3, 4), np.float32)}, "inputs z"),
    ("one too many", {n: np.zeros((3, 4), np.float32) for n in "xz"}, "inputs x, z"),
    ("nothing", {}, "inputs none"),
]


@pytest.mark.parametrize(("inputs", "wanted"), [c[1:] for c in REQUESTS], ids=[c[0] for c in REQUESTS])
def test_requests_are_held_against_the_signature(tmp_path, inputs, wanted):
    signature = signature_from_onnx(onnx.load(small_model(tmp_path / "m.onnx")), 8)
    if isinstance(wanted, int):
        assert signature.rows(inputs) == wanted
    else:
        with pytest.raises(RequestError, match=wanted):
            signature.rows(inputs)


@pytest.mark.parametrize("names", [["z"], ["y", "y"], ["y", "z"]])
def test_outputs_that_cannot_be_had(tmp_path, names):
    signature = signature_from_onnx(onnx.load(small_model(tmp_path / "m.onnx")), 8)
    with pytest.raises(RequestError):
        signature.choose_outputs([WantedOutput(name) for name in names], binary=True)


X = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]'
CONFIGS = [
    ("agrees", f"max_batch_size: 4 {X}", {}, 4),
    ("no batching", X, {}, 0),
    ("another datatype", X.replace("FP32", "FP16"), {}, "TYPE_FP16"),
    ("open sizes, declared", f"max_batch_size: 4 {X}", {"shape": ("N", "M")}, 4),
    ("other sizes", f"max_batch_size: 4 {X.replace('[ 4 ]', '[ 5 ]')}", {}, r"x of dims \[5\]"),
    ("another rank", f"max_batch_size: 4 {X.replace('[ 4 ]', '[ 1, 4 ]')}", {}, r"x of dims \[1, 4\]"),
    ("the batch among the sizes", X.replace("[ 4 ]", "[ -1, 4 ]"), {}, 0),
    ("another output", 'output [ { name: "z" data_type: TYPE_FP32 dims: [ 4 ] } ]', {}, "z TYPE_FP32"),
    ("a reshape", X.replace("dims: [ 4 ]", "dims: [ 2, 2 ] reshape { shape: [ 4 ] }"), {}, "reshape of x"),
    ("another platform", 'platform: "tensorrt_plan"', {}, "tensorrt_plan"),
    ("another backend", 'backend: "pytorch"', {}, "pytorch"),
    ("its platform", f'platform: "onnxruntime_onnx" backend: "onnxruntime" max_batch_size: 4 {X}', {}, 4),
    ("another name", X.replace('"x"', '"z"'), {}, "z TYPE_FP32"),
    ("batches of a fixed batch", f"max_batch_size: 4 {X}", {"shape": (2, 4)}, "max_batch_size 4"),
    ("labels that are not there", 'output [ { name: "y" data_type: TYPE_FP32 label_filename: "l" } ]', {}, "'l'"),
    ("labels elsewhere", 'output [ { name: "y" data_type: TYPE_FP32 label_filename: "../l" } ]', {}, "'../l'"),
]


@pytest.mark.parametrize(("text", "small", "wanted"), [c[1:] for c in CONFIGS], ids=[c[0] for c in CONFIGS])
def test_config_is_held_against_the_file(tmp_path, text, small, wanted):
    source = with_config(tmp_path, text, **small)
    if isinstance(wanted, int):
        model = loaded(source)
        assert model.signature.max_batch == wanted
        model.session.close()
    else:
        with pytest.raises(InputError, match=wanted):
            loaded(source)


def test_declared_sizes_narrow_open_ones(tmp_path):
    model = loaded(with_config(tmp_path, f"max_batch_size: 4 {X}", shape=("N", "M")))
    with pytest.raises(RequestError, match=r"\[-1, 4\]"):
        model.signature.rows({"x": np.zeros((1, 5), np.float32)})
    model.session.close()


def test_what_a_config_asks_for_in_vain_is_noticed(tmp_path):
    text = "max_batch_size: 4 instance_group [ { kind: KIND_GPU } ] response_cache { enable: true } optimization {}"
    model = loaded(with_config(tmp_path, text))
    assert "config.pbtxt: optimization, response_cache, KIND_GPU (see --provider) not heeded" in str(model.notices)
    model.session.close()


@pytest.mark.parametrize(("text", "combined"), [("", False), ("dynamic_batching {}", True)])
def test_without_dynamic_batching_requests_run_apart(tmp_path, text, combined):
    async def scenario():
        model = Model(loaded(with_config(tmp_path, f"max_batch_size: 4 {text}")), statistics := Statistics())
        x = {"x": np.ones((1, 4), np.float32)}
        await asyncio.gather(*(model.batcher.submit(x, 1) for _ in range(3)))
        await model.retire()
        return statistics.executions

    assert asyncio.run(scenario()) == (1 if combined else 3)


def test_a_git_lfs_pointer_says_what_to_do(tmp_path):
    (tmp_path / "m.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n")
    with pytest.raises(InputError, match="git lfs pull"):
        loaded(tmp_path)


def test_rows_that_influence_each_other_are_not_batched(tmp_path):
    mixing_model(tmp_path / "m.onnx")
    model = loaded(tmp_path)
    assert model.signature.max_batch == 0
    assert any("not batched" in notice for notice in model.notices)
    model.session.close()


def test_independent_rows_are_batched_and_a_missing_passport_is_noticed(tmp_path):
    small_model(tmp_path / "m.onnx")
    model = loaded(tmp_path, max_batch=16)
    assert model.signature.max_batch == 16
    assert model.notices == ["no passport: neither the files nor the results are verified"]
    model.session.close()


def test_the_passport_is_asked_before_the_runtime(tmp_path):
    path = small_model(tmp_path / "m.onnx")
    write_passport(path)
    path.write_bytes(small_model(tmp_path / "other.onnx", kappa=2).read_bytes())
    (tmp_path / "other.onnx").unlink()
    with pytest.raises(Exception, match="sha256"):
        loaded(tmp_path)


def test_a_file_replaced_between_check_and_use(tmp_path):
    small_model(tmp_path / "m.onnx")
    artifact = scan(tmp_path, ModelConfig())["m"].artifacts[1]
    small_model(tmp_path / "new", kappa=2).replace(tmp_path / "m.onnx")
    with pytest.raises(InputError, match="replaced while"):
        load_model(artifact, threads=1, providers=None)


@pytest.mark.parametrize("content", [b"", b"not onnx", b"\x08\x08" * 500], ids=["empty", "text", "broken"])
def test_a_file_that_is_no_model(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(InputError):
        loaded(tmp_path)


CLASSES = [
    ("floats", np.array([[0.1, 0.9], [0.7, 0.3]], np.float32), [["0.900000:1"], ["0.700000:0"]]),
    ("integers", np.array([[1, 9], [7, 3]]), [["9:1"], ["7:0"]]),
    ("ties keep the order", np.array([[2, 2], [2, 2]]), [["2:0"], ["2:0"]]),
]


@pytest.mark.parametrize(("scores", "wanted"), [c[1:] for c in CLASSES], ids=[c[0] for c in CLASSES])
def test_classes(scores, wanted):
    assert best_classes(scores, 1, [], batched=True).tolist() == wanted


def test_classes_with_labels_and_more_than_there_are():
    scores = np.array([[0.25, 0.75]], np.float32)
    got = best_classes(scores, 9, ["cat", "dog"], batched=True)
    assert got.tolist() == [["0.750000:1:dog", "0.250000:0:cat"]]


@pytest.mark.parametrize(("layout", "shape"), [("nhwc", (-1, -1, -1, 3)), ("nchw", (-1, 3, -1, -1))])
def test_open_sizes_of_pixels_are_warmed_up_in_their_layout(layout, shape, tmp_path):
    path = small_model(tmp_path / "m.onnx")
    passport = write_passport(path)
    passport.input_shape, passport.options["pixels"] = (3, 32, 48), {"layout": layout}
    image = {"nhwc": (32, 48, 3), "nchw": (3, 32, 48)}[layout]
    assert _sample_shape(passport) == image
    (row,) = sample(
        RequestSignature((TensorSpec.of_sizes("input", "uint8", shape),), max_batch=4), 1, image
    ).values()
    assert row.shape == (1, *image)


def test_serving_wants_no_torch(tmp_path):
    """The image of docker/Dockerfile.cpu holds none; where it is there, it is 200 MB that a server does without."""
    small_model(tmp_path / "m.onnx")
    code = f"""
import sys
sys.modules["torch"] = None
import apa_deploy.cli.serve, apa_deploy.serving.lifecycle
from pathlib import Path
from apa_deploy.serving.layout import scan
from apa_deploy.serving.model import load_model
from apa_deploy.serving.model_config import ModelConfig
artifact = scan(Path({str(tmp_path)!r}), ModelConfig())["m"].artifacts[1]
load_model(artifact, threads=1, providers=None).session.close()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
