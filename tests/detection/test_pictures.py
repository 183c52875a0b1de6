"""Pictures of every kind as a detector takes them."""

import io

import numpy as np
import pytest
from PIL import Image

from apa_deploy.detection.pictures import photograph, read_picture


def stored(change, suffix=".png", **options):
    """The photograph as a file of another kind, opened."""
    file = io.BytesIO()
    change(Image.fromarray(photograph())).save(file, Image.registered_extensions()[suffix], **options)
    return Image.open(file)


def sixteen_bits(image):
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 256 + 255)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "16 bits"])
def test_pictures_of_every_kind_are_rgb_bytes(mode):
    found = read_picture(stored(sixteen_bits if mode == "16 bits" else lambda image: image.convert(mode)))
    wanted = photograph() if mode in ("RGB", "RGBA") else np.asarray(Image.fromarray(photograph()).convert("L"))
    wanted = wanted if wanted.ndim == 3 else np.repeat(wanted[..., None], 3, 2)
    assert found.dtype == np.uint8 and found.shape == wanted.shape and (found == wanted).all()


@pytest.mark.parametrize(("turn", "undo"), [(3, 2), (6, 3), (8, 1)])
def test_pictures_stand_upright(turn, undo):
    """As OpenCV opens them, with which these networks were trained."""
    exif = Image.Exif()
    exif[0x0112] = turn
    found = read_picture(stored(lambda image: image, ".png", exif=exif))
    assert (found == np.rot90(photograph(), undo)).all()
