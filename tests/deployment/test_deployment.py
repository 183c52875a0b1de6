"""apa_deploy.deployment: what is baked into the graph, against upstream's figures and by running the file."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from apa_exporters.onnx.export import OnnxOptions, export_onnx

import apa_deploy
from apa_deploy.deployment import Deployment, counts, deploy
from apa_deploy.deployment.iif import VARIANTS, constants
from apa_deploy.deployment.pixels import RECIPES
from apa_deploy.errors import InputError
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.tensors.signature import image_signature
from tests.networks import tiny_net

SHAPE = (3, 16, 16)


@pytest.fixture
def model():
    return TorchNetwork(tiny_net(), image_signature(SHAPE), Metadata("tiny", output_names=("logits",)))


def run(path, x):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]


def reference(model, x):
    with torch.inference_mode():
        return model.module.double()(torch.from_numpy(x).double()).numpy()


@pytest.mark.parametrize("variant", VARIANTS)
def test_iif_is_upstreams(variant, golden_arrays):
    data = golden_arrays["iif"]
    got = constants(variant, data["counts"].tolist()).numpy()
    wanted = data[f"iif_{variant}"]
    # upstream computes in float32: a few roundings of terms up to 10
    np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(data["pred"] + got, data[f"out_{variant}"], rtol=2e-6, atol=4e-6)


@pytest.mark.parametrize(("recipe", "layout", "channels"), [
    ("imagenet", "nhwc", None), ("imagenet", "nchw", None), ("cifar", "nhwc", "bgr"), ("mmdet", "nhwc", None),
    ("mmdet", "nchw", "rgb"),
])  # fmt: skip
def test_pixels(recipe, layout, channels, model, tmp_path):
    options = Deployment(preprocess=recipe, layout=layout, channels=channels)
    passport = export_onnx(deploy(model, options), tmp_path / "m.onnx", OnnxOptions())
    assert passport.parity.passed
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    # by hand, in float64: what a training pipeline does
    r = RECIPES[recipe]
    rgb = pixels[..., ::-1] if (channels or r.input_channels) == "bgr" else pixels
    x = ((rgb * r.scale - np.array(r.mean)) / np.array(r.std)).transpose(0, 3, 1, 2)
    given = pixels if layout == "nhwc" else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    wanted = reference(model, x)
    # float32 over four layers, and constants rounded to float32
    assert np.abs(run(tmp_path / "m.onnx", given) - wanted).max() <= 1e-5 * np.abs(wanted).max()
    dims = [
        d.dim_param or d.dim_value for d in onnx.load(tmp_path / "m.onnx").graph.input[0].type.tensor_type.shape.dim
    ]
    assert dims == (["batch", "height", "width", 3] if layout == "nhwc" else ["batch", 3, "height", "width"])


def test_own_recipe(model, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}))
    export_onnx(deploy(model, Deployment(preprocess=str(file))), tmp_path / "m.onnx", OnnxOptions())
    pixels = np.full((1, 16, 16, 3), 255, np.uint8)
    wanted = reference(model, np.ones((1, 3, 16, 16)))
    assert np.abs(run(tmp_path / "m.onnx", pixels) - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_iif_softmax_and_labels(model, tmp_path):
    (tmp_path / "counts.txt").write_text("500\n200\n90\n20\n5\n")
    (tmp_path / "names.json").write_text(json.dumps(["a", "b", "c", "d", "é"]))
    options = Deployment(iif="rel", counts=tmp_path / "counts.txt", softmax=True, labels=tmp_path / "names.json")
    passport = export_onnx(deploy(model, options), tmp_path / "m.onnx", OnnxOptions())
    assert passport.output_names == ["probabilities"]
    x = np.random.default_rng(0).standard_normal((3, *SHAPE)).astype(np.float32)
    n = np.array([500, 200, 90, 20, 5])
    scores = np.exp(reference(model, x) + np.log((n.sum() - n) / n))
    wanted = scores / scores.sum(1, keepdims=True)
    # probabilities are at most 1: the relative error of logits around 5 becomes an absolute one
    assert np.abs(run(tmp_path / "m.onnx", x) - wanted).max() <= 1e-5
    facts = {p.key: p.value for p in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert json.loads(facts["apa.labels"]) == ["a", "b", "c", "d", "é"]


def test_nothing_is_added_unless_asked(model):
    same = deploy(model, Deployment())
    assert same.module is model.module


def test_long_tail_label_order_is_explained(model, tmp_path):
    model.metadata.arguments = {"dset_name": "imagenet_lt"}
    (tmp_path / "names.txt").write_text("\n".join("abcde"))
    notices = deploy(model, Deployment(labels=tmp_path / "names.txt")).metadata.notices
    assert "descending frequency" in notices[-1]


def test_contrastive_features_keep_clear_of_iif():
    class Two(torch.nn.Module):
        def forward(self, x):
            return x[:, :3], x[:, :4]

    two = TorchNetwork(Two(), image_signature(SHAPE), Metadata("two"))
    wrapped = deploy(two, Deployment(softmax=True)).module
    logits, features = wrapped(torch.ones(1, 5))
    assert logits.sum().item() == pytest.approx(1.0)
    assert features.tolist() == [[1.0] * 4]


BAD = [
    ("an unknown recipe", {"preprocess": "coco"}, "coco"),
    ("an unknown variant", {"iif": "best", "counts": "1\n2\n"}, "--iif best"),
    ("iif without counts", {"iif": "rel"}, "--class-counts"),
    ("a class without images", {"iif": "rel", "counts": "4\n0\n3\n"}, r"\[1\]"),
    ("negative counts", {"iif": "rel", "counts": "4\n-1\n"}, "negative"),
    ("counts that are words", {"iif": "rel", "counts": "[\"many\"]"}, "whole numbers"),
    ("no counts file", {"iif": "rel", "counts": None}, "counts.txt"),
    ("a recipe with std 0", {"preprocess": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, "std"),
    ("a recipe of four channels", {"preprocess": {"mean": [0] * 4, "std": [1] * 4}}, "mean"),
    ("a recipe with a typo", {"preprocess": {"mean": [0] * 3, "std": [1] * 3, "scal": 1}}, "scal"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "saw"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_bad_options(given, saw, model, tmp_path):
    given = dict(given)
    if "counts" in given:
        path = tmp_path / "counts.txt"
        if given["counts"] is not None:
            path.write_text(given["counts"])
        given["counts"] = path
    if isinstance(given.get("preprocess"), dict):
        (tmp_path / "p.json").write_text(json.dumps(given["preprocess"]))
        given["preprocess"] = str(tmp_path / "p.json")
    with pytest.raises(InputError, match=saw):
        deploy(model, Deployment(**given))


def test_counts_of_another_number_of_classes(cifar_checkpoint, tmp_path):
    (tmp_path / "counts.txt").write_text("1\n2\n")
    with pytest.raises(InputError, match="one for each of 100 classes"):
        deploy(apa_deploy.load(cifar_checkpoint), Deployment(iif="raw", counts=tmp_path / "counts.txt"))


NAMES = [
    ('["a\\nb", "c"]', "class name 1"),
    ('["a", "\\u202eb"]', "class name 2"),
    ("a\n\nb\n", "class name 2"),
    ('["a", ""]', "class name 2"),
    ("a\x1b[31m\nb\n", "class name 1"),
    ("\ufeffa\r\nb\r\n\n", None),
]


@pytest.mark.parametrize(("content", "said"), NAMES)
def test_class_names_keep_to_their_lines(content, said, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text(content, encoding="utf-8")
    if said is None:
        assert counts.labels_of(path, None)[0] == "a"
        return
    with pytest.raises(InputError, match=said):
        counts.labels_of(path, None)


@pytest.mark.parametrize(
    ("outputs", "refused"),
    [
        ({"logits": (-1, 5)}, True),
        ({"logits": (-1, 3)}, False),
        ({"logits": (-1, -1)}, False),
        ({"boxes": (-1, 100, 4), "labels": (-1, 100)}, False),
    ],
)
def test_labels_fit_an_output(outputs, refused):
    if refused:
        with pytest.raises(InputError, match="3 labels; wanted one for each of 5 classes"):
            counts.check_number(["a", "b", "c"], outputs)
    else:
        counts.check_number(["a", "b", "c"], outputs)
