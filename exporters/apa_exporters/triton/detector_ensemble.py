"""`--ensemble` with a detector: encoded pictures in, boxes and masks in their own pixels out.

NAME: image -> NAME_image (decode, resize, normalise, pad) -> NAME_network -> NAME_boxes (rescale, paste masks)
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from apa_deploy.detection import pictures, spec
from apa_deploy.detection.spec import IMAGES
from apa_deploy.errors import InputError
from apa_deploy.runtimes.artifacts import ENGINE, artifact_kind
from apa_deploy.runtimes.session import Session
from apa_deploy.serving.signature import TensorSpec

from .artifact import Arrays, Served
from .config import detector_configs, write_config

PACKAGE = "apa_pictures"  # of the files that both scripts import


def check_detector(found: Served, resize: int | None) -> None:
    """Refuse what has no boxes to take back to a picture.

    Raises:
        InputError: the outputs are not those of end2end, or a size is asked for.
    """
    assert found.detector is not None
    if found.detector["output"] != "end2end" or not found.signature.max_batch:
        saw = f"--ensemble with {found.path.name}"
        raise InputError(saw, "a detector of --detector end2end that takes batches", "Export it so.")
    if resize:
        wanted = "the size that the detector's config says"
        raise InputError(
            f"--resize {resize} with a detector", wanted, "Leave it out; --config gives another config."
        )


def facts_of(found: Served) -> dict[str, Any]:
    """What the two scripts are told."""
    assert found.detector is not None
    return found.detector | ({"pixels": found.pixels} if found.pixels else {})


def write_detector_ensemble(root: Path, name: str, network: Any, found: Served, served: Path) -> None:
    """Write NAME_image, NAME_boxes and NAME beside the network."""
    scripts = {f"{name}_image": "detector_image.py", f"{name}_boxes": "detector_boxes.py"}
    for config in detector_configs(name, network, facts_of(found)):
        folder = root / config.name / "1"
        folder.mkdir(parents=True)
        write_config(config, root / config.name)
        if config.name not in scripts:  # an empty folder would not survive git, archives and object stores
            (folder / "ensemble").write_text("The version of an ensemble has no artifact.\n", encoding="utf-8")
            continue
        shutil.copyfile(served / scripts[config.name], folder / "model.py")
        (folder / PACKAGE).mkdir()
        (folder / PACKAGE / "__init__.py").write_text("", encoding="utf-8")
        for module in (pictures, spec):
            shutil.copy(str(module.__file__), folder / PACKAGE)


def detector_smoke(
    found: Served, specs: tuple[TensorSpec, ...]
) -> tuple[dict[str, np.ndarray], Arrays | None, tuple[TensorSpec, ...]]:
    """The photograph, encoded, and what the repository makes of it (None for an engine)."""
    from PIL import Image

    file = io.BytesIO()
    picture = pictures.photograph()
    Image.fromarray(picture).save(file, "PNG")
    image = {"image": np.array([[file.getvalue()]], np.object_)}
    masks = (TensorSpec.of_sizes("masks", "bool", (-1, specs[0].declared[1], *picture.shape[:2])),)
    specs = tuple(masks[0] if s.name == "masks" else s for s in specs)
    if artifact_kind(found.path) is ENGINE:
        return image, None, specs
    inputs, sizes = _prepare(picture, facts_of(found))
    with Session(found.path, threads=1) as session:
        outputs = dict(session.run(inputs))
    outputs["boxes"] = pictures.rescale(outputs["boxes"], sizes, picture.shape[:2])
    if "masks" in outputs:
        threshold = facts_of(found)["mask_thr"]
        height, width = picture.shape[:2]
        pasted = pictures.paste_masks(outputs["masks"][0], outputs["boxes"][0], height, width, threshold)
        outputs["masks"] = pasted[None]
    return image, outputs, specs


def _prepare(picture: np.ndarray, facts: dict[str, Any]) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
    """What the network takes of one picture, and its height and width there."""
    height, width = picture.shape[:2]
    size = pictures.resized_size(height, width, limits=tuple(facts["resize"]), keep_ratio=facts["keep_ratio"])
    small = pictures.resize(picture, *size)
    if of_bytes := facts.get("pixels"):
        small = small[:, :, ::-1] if of_bytes["channels"] == "bgr" else small
        return {IMAGES: (small if of_bytes["layout"] == "nhwc" else small.transpose(2, 0, 1))[None]}, size
    numbers: dict[str, Any] = {name: tuple(facts[name]) for name in ("mean", "std")}
    detector = spec.DetectorSpec(
        "", "", spec.Rpn(), (), **numbers, bgr=facts["bgr_to_rgb"], divisor=facts["divisor"]
    )
    images, valid = pictures.network_input([small], detector)
    return {IMAGES: images, spec.VALID: valid}, size
