"""Inputs from files, folders and functions; what is wrong with them is said."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from apa_deploy.deployment.pixels import RECIPES
from apa_deploy.errors import InputError
from apa_deploy.tensors.signature import TensorSpec, image_signature
from apa_deploy.verification.data import Data, Digest, read_batches
from apa_deploy.verification.pictures import PictureError, Pictures, label_pictures, pictures_in
from apa_deploy.verification.reference import pictures_for
from tests.verification.conftest import SHAPE, verify

SIGNATURE = image_signature(SHAPE)
RNG = np.random.default_rng(0)


def data(text, **options):
    return Data(text=str(text), signature=SIGNATURE, **options)


def test_npz_in_batches_with_labels(tmp_path):
    images = RNG.standard_normal((5, *SHAPE)).astype(np.float32)
    np.savez(tmp_path / "data.npz", input=images, labels=np.arange(5))
    found = list(read_batches(data(tmp_path / "data.npz", batch=2)))
    assert [len(b.feed["input"]) for b in found] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([b.feed["input"] for b in found]), images)
    assert np.concatenate([b.labels for b in found]).tolist() == [0, 1, 2, 3, 4]
    assert len(list(read_batches(data(tmp_path / "data.npz", batch=2, fixed=True)))) == 2


BAD_ARRAYS = [
    ("no such array", {"a": np.zeros((1, *SHAPE)), "b": np.zeros(1)}, "an array 'input'"),
    ("three axes", {"input": np.zeros(SHAPE)}, "(N, 3, height, width)"),
    ("NaN", {"input": np.full((1, *SHAPE), np.nan)}, "finite numbers"),
    ("text", {"input": np.full((1, *SHAPE), "x")}, "finite numbers"),
    ("empty", {"input": np.zeros((0, *SHAPE))}, "above 0"),
    ("lengths differ", {"input": np.zeros((2, *SHAPE)), "labels": np.zeros(3, int)}, "one length"),
    ("fractional labels", {"input": np.zeros((2, *SHAPE)), "labels": np.zeros(2)}, "one whole number a sample"),
]


@pytest.mark.parametrize(("arrays", "wanted"), [b[1:] for b in BAD_ARRAYS], ids=[b[0] for b in BAD_ARRAYS])
def test_bad_arrays(arrays, wanted, tmp_path):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputError, match="wanted") as caught:
        list(read_batches(data(tmp_path / "data.npz")))
    assert wanted in caught.value.wanted


def test_a_file_that_is_no_npz(tmp_path):
    (tmp_path / "data.npz").write_bytes(b"PK\3\4 torn off")
    with pytest.raises(InputError):
        list(read_batches(data(tmp_path / "data.npz")))


def from_python():
    """A loader: arrays, feeds and pairs."""
    yield np.zeros((1, *SHAPE), np.float32)
    yield {"input": np.ones((2, *SHAPE), np.float32)}
    yield np.ones((2, *SHAPE), np.float32), np.array([1, 2])


@pytest.mark.parametrize("target", ["/dev/zero", "/nowhere"])
def test_a_path_that_is_no_file_is_no_module(target, tmp_path):
    (tmp_path / "data.npz").symlink_to(target)
    with pytest.raises(InputError, match=r"pipe or a device|No such file"):
        next(read_batches(data(tmp_path / "data.npz")))


def test_images_for_a_network_of_none():
    network = SimpleNamespace(metadata=SimpleNamespace(detector=None), input=TensorSpec("ids", "int64", ("n", 7)))
    with pytest.raises(InputError, match="images for input 'ids'"):
        pictures_for(network, preprocess=None)


def test_a_python_loader():
    found = list(read_batches(data(f"{__name__}:from_python")))
    assert [len(b.feed["input"]) for b in found] == [1, 2, 2]
    assert found[2].labels.tolist() == [1, 2]


@pytest.mark.parametrize("text", ["nowhere.npz", "no.such:loader", f"{__name__}:nothing", f"{__name__}:SHAPE.x"])
def test_a_loader_that_is_none(text):
    with pytest.raises(InputError):
        list(read_batches(data(text)))


def random_loader():
    yield np.random.default_rng().standard_normal((1, *SHAPE)).astype(np.float32)


def test_a_loader_that_never_gives_the_same(exports):
    candidate = exports / "plain.onnx"
    verification = verify(exports / "model.pth", candidate, inputs=f"{__name__}:random_loader").verification
    assert "other inputs" in verification.candidates[0].failure.saw


def test_the_digest_sees_every_byte():
    def digest(array):
        seen = Digest()
        list(seen.of(batches_of(array)))
        return seen.hex

    base = np.zeros((1, *SHAPE), np.float32)
    other = base.copy()
    other[0, 2, 15, 15] = 1e-30
    assert digest(base) == digest(base.copy()) != digest(other)


def batches_of(array):
    from apa_deploy.verification.data import Batch

    return [Batch({"input": array})]


@pytest.fixture
def folder(tmp_path):
    """Two classes, three images of several shapes and modes."""
    for name, size, mode in (
        ("cat/a.png", (40, 20), "RGB"),
        ("cat/b.jpg", (20, 40), "L"),
        ("dog/c.png", (16, 16), "RGBA"),
    ):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = {"RGB": (3,), "L": (), "RGBA": (4,)}[mode]
        Image.fromarray(RNG.integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8), mode).save(path)
    return tmp_path / "images"


def test_images_and_their_classes(folder):
    pictures = Pictures(height=16, width=16, resize=18, recipe=RECIPES["imagenet"])
    found = list(pictures_in(folder, pictures))
    assert [label for _, label in found] == [0, 0, 1]
    assert all(image.shape == SHAPE and image.dtype == np.float32 for image, _ in found)


def test_classes_by_name_and_by_number(folder):
    assert [label for _, label in label_pictures(folder, ["bird", "dog", "cat"])] == [2, 2, 1]
    (folder / "cat").rename(folder / "7")
    (folder / "dog").rename(folder / "3")
    assert sorted(label for _, label in label_pictures(folder)) == [3, 7, 7]
    with pytest.raises(InputError, match="among"):
        label_pictures(folder.parent / "images", ["7"]) if (folder / "7").rename(folder / "cow") else None


def test_pixels_are_those_of_the_file(folder):
    """No resize, no recipe: the very pixels, in the layout and order that were asked for."""
    path = folder / "dog" / "c.png"
    pixels = np.asarray(Image.open(path).convert("RGB"))
    for bgr, last in ((False, True), (True, True), (False, False)):
        pictures = Pictures(height=16, width=16, resize=None, recipe=None, bgr=bgr, channels_last=last)
        image = dict(zip("abc", (i for i, _ in pictures_in(folder, pictures)), strict=True))["c"]
        wanted = pixels[..., ::-1] if bgr else pixels
        np.testing.assert_array_equal(image, wanted if last else wanted.transpose(2, 0, 1))


def test_normalised_as_the_recipe_says(folder):
    plain = Pictures(height=16, width=16, resize=None, recipe=None, channels_last=True)
    pixels = next(iter(pictures_in(folder, plain)))[0] / 255
    image = next(iter(pictures_in(folder, plain.model_copy(update={"recipe": RECIPES["imagenet"]}))))[0]
    # float32 of a float64 formula: half an ulp of values below 4
    np.testing.assert_allclose(image, (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], atol=2.0**-22)


def test_the_crop_is_the_middle(tmp_path):
    """A picture that is its own column number: 32 wide, resized by 1, the middle 16 columns stay."""
    columns = np.tile(np.arange(32, dtype=np.uint8), (16, 1))
    Image.fromarray(np.stack([columns] * 3, axis=-1)).save(tmp_path / "a.png")
    pictures = Pictures(height=16, width=16, resize=16, recipe=None, channels_last=True)
    ((image, _),) = pictures_in(tmp_path, pictures)
    np.testing.assert_array_equal(image[0, :, 0], np.arange(8, 24))


def test_an_empty_folder(tmp_path):
    with pytest.raises(InputError, match="no image"):
        label_pictures(tmp_path)


def test_corrupt_images_are_all_named(folder):
    (folder / "cat" / "a.png").write_bytes((folder / "cat" / "a.png").read_bytes()[:60])
    (folder / "dog" / "c.png").write_bytes(b"no image")
    with pytest.raises(PictureError) as caught:
        list(pictures_in(folder, Pictures(height=16, width=16, resize=None, recipe=None)))
    assert [path.name for path in caught.value.paths] == ["a.png", "c.png"]


def test_a_folder_of_images_end_to_end(folder, exports, tmp_path):
    """Accuracy of both, and groups by training counts."""
    counts = tmp_path / "counts.txt"
    counts.write_text("500\n5\n50\n50\n50\n")
    verification = verify(
        exports / "model.pth", exports / "plain.onnx", inputs=str(folder), batch=2, class_counts=counts
    ).verification
    assert verification.passed and verification.inputs.samples == 3
    (candidate,) = verification.candidates
    assert [(a.group, a.samples) for a in candidate.accuracy] == [("all", 3), ("many", 2), ("few", 1)]
    assert [a.top1 for a in candidate.accuracy] == [a.top1 for a in verification.accuracy]
