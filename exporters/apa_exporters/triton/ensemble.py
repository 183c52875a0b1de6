"""`--ensemble`: encoded pictures in. A client sees one model where there are two.

NAME (ensemble): image -> NAME_image (decode, resize, crop) -> pixels -> NAME_network (normalise, classify)
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from apa_deploy.errors import InputError
from apa_deploy.runtimes.artifacts import ENGINE, artifact_kind
from apa_deploy.runtimes.session import Session

from .artifact import Served
from .config import ensemble_config, image_config, write_config

_CROP = 0.875  # of ImageNet's usual evaluation: 224 out of 256


def image_parameters(found: Served, resize: int | None) -> dict[str, str]:
    """What `image_model.py` is told.

    Raises:
        InputError: the network takes no pixels, or pictures would be smaller than what it takes.
    """
    if found.pixels is None or found.size is None or not found.signature.max_batch:
        wanted = "a network that takes batches of uint8 pixels"
        raise InputError(f"--ensemble with {found.path.name}", wanted, "Export it with --preprocess.")
    _, height, width = found.size
    usual = round(max(height, width) / _CROP) if found.pixels["preprocess"] == "imagenet" else max(height, width)
    if (resize or usual) < max(height, width):
        raise InputError(f"--resize {resize}", f"at least {max(height, width)}", "The crop is taken out of it.")
    sizes = {"resize": str(resize or usual), "height": str(height), "width": str(width)}
    return sizes | {key: found.pixels[key] for key in ("layout", "channels")}


def write_ensemble(root: Path, name: str, network: Any, parameters: dict[str, str], served: Path) -> None:
    """Write NAME_image and NAME beside the network, whose labels the ensemble repeats."""
    image = image_config(f"{name}_image", network, parameters)
    ensemble = ensemble_config(name, image, network)
    for config in (image, ensemble):
        (root / config.name / "1").mkdir(parents=True)
        write_config(config, root / config.name)
    shutil.copyfile(served / "image_model.py", root / image.name / "1" / "model.py")
    for output in network.output:
        if output.label_filename:
            shutil.copyfile(root / network.name / output.label_filename, root / name / output.label_filename)
    # an empty folder would not survive git, archives and object stores
    (root / name / "1" / "ensemble").write_text("The version of an ensemble has no artifact.\n", encoding="utf-8")


def smoke_picture(found: Served, parameters: dict[str, str]) -> tuple[np.ndarray, dict[str, np.ndarray] | None]:
    """A picture, encoded, and what the network makes of its pixels (None for an engine)."""
    from .repository_files.image_model import pixels

    encoded = _png(int(parameters["resize"]))
    image = np.array([[encoded]], np.object_)
    if artifact_kind(found.path) is ENGINE:
        return image, None
    resize, height, width = (int(parameters[key]) for key in ("resize", "height", "width"))
    row = pixels(encoded, resize, height, width, parameters["layout"], parameters["channels"])[None]
    with Session(found.path, threads=1) as session:
        return image, session.run({found.signature.inputs[0].name: row})


def _png(side: int) -> bytes:
    """Waves of three colours; of the size to which pictures are resized, so that no resampling is judged."""
    import io

    from PIL import Image

    y, x = np.mgrid[0:side, 0:side] / side
    waves = [128 + 120 * np.sin(2 * np.pi * (f * x + g * y)) for f, g in ((1, 2), (3, 1), (2, 5))]
    file = io.BytesIO()
    Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
