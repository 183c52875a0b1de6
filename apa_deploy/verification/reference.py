"""Run the reference: in float64, which is the truth; in float32; and stored in half types where that is wanted."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..detection.rows import Rows
from ..errors import GateError, InputError
from ..network import FLOAT32, FLOAT32_AGAIN, OWN, TRUTH, Network
from ..parity.runners import run_network
from ..records.passport import ActivationRecord, record_activation
from ..tensors.signature import Feed
from .data import Data, Digest, read_batches
from .pictures import Pictures
from .source import Loading, ModelSource, load_network


class ReferenceJob(BaseModel):
    """`inputs`: as the user named them. `stored`: half types of the candidates. `normalise`, `resize`: images."""

    source: ModelSource
    loading: Loading
    inputs: str | None = None
    batch: int | None = None
    fixed: bool = False
    stored: list[str] = []
    normalise: str | None = None
    resize: int | None = None


class ReferenceAnswer(BaseModel):
    """What every candidate is held against. `sha256`: of the file that the module was made from, or "".

    `half`: the type that the reference itself stores values in, or "".
    """

    data: Data
    output_names: list[str]
    labels: list[int] | None
    samples: int
    batches: int
    digest: str
    architecture: str
    weights: str
    sha256: str
    bytes: int
    curves: list[ActivationRecord] = []
    notices: list[str] = []
    rows: Rows | None = None
    half: str = ""


class UnjudgeableError(GateError):
    """Nothing can be judged by this reference. `reason`."""

    def __init__(self, reason: str, wanted: str) -> None:
        super().__init__(
            f"cannot be judged: {reason}", wanted, "Correct the reference, or give realistic inputs (--inputs)."
        )
        self.reason = reason


def evaluate_reference(job: ReferenceJob) -> tuple[ReferenceAnswer, dict[str, list[dict[str, Any]]]]:
    """The answer, and the outputs of each evaluation: a list of {name: array}, one a batch.

    Raises:
        InputError: the reference or the inputs cannot be used.
    """
    network = load_network(job.source, job.loading)
    data = resolve_data(network, job)
    digest, labels = Digest(), []
    stream = digest.of(read_batches(data))
    first = next(stream, None)
    if first is None:
        raise InputError(f"--inputs {job.inputs}: no batch", "at least one sample", "Check the data, or --batch.")
    if parts := network.find_randomness(first.feed):
        raise UnjudgeableError(
            f"the reference is not deterministic: {', '.join(parts)}", "a reference in eval mode"
        )
    dtypes = (TRUTH, FLOAT32, FLOAT32_AGAIN, *job.stored, *([OWN] if network.half else []))
    recorded: dict[str, list[Feed]] = {dtype: [] for dtype in dtypes}
    for batch in chain([first], stream):
        for dtype in dtypes:
            recorded[dtype].append(run_network(network, batch.feed, dtype))
        labels.append(batch.labels)
    known = [one for one in labels if one is not None]
    answer = ReferenceAnswer(
        data=data,
        output_names=list(recorded[TRUTH][0]),
        labels=[int(v) for one in known for v in one] if len(known) == len(labels) else None,
        samples=digest.samples,
        batches=digest.batches,
        digest=digest.hex,
        architecture=network.metadata.architecture,
        weights=network.metadata.weights,
        sha256=network.metadata.sha256,
        bytes=network.metadata.bytes,
        curves=[record_activation(site) for site in network.learned],
        notices=list(network.metadata.notices),
        rows=network.rows,
        half=network.half,
    )
    return answer, recorded


def resolve_data(network: Network, job: ReferenceJob) -> Data:
    """Where the inputs come from, and how images become inputs of `network`."""
    is_folder = job.inputs is not None and Path(job.inputs).is_dir()
    needs_shape = job.inputs is None or is_folder
    if needs_shape:
        for spec in network.signature.inputs:
            spec.shape(1)  # refuses an unknown size before anything is run
    return Data(
        text=job.inputs,
        signature=network.signature,
        batch=job.batch,
        fixed=job.fixed,
        pictures=_pictures(network, job) if is_folder else None,
        classes=network.metadata.labels,
    )


def _pictures(network: Network, job: ReferenceJob) -> Pictures:
    deployment = job.loading.deployment
    return pictures_for(
        network,
        preprocess=deployment.get("preprocess"),
        channels=deployment.get("channels"),
        normalise=job.normalise,
        resize=job.resize,
    )


def pictures_for(
    network: Network,
    *,
    preprocess: str | None,
    channels: str | None = None,
    normalise: str | None = None,
    resize: int | None = None,
) -> Pictures:
    """Upstream's evaluation: CIFAR as it is; else the shorter side `val_resize_size`, then the centre.

    `preprocess`: the recipe inside the network, which then takes pixels; `channels`: their order.

    Raises:
        InputError: its first input is no batch of images.
    """
    from ..deployment.pixels import recipe_of

    if network.metadata.detector:
        return _pictures_of_detector(network, channels)
    spec = network.input
    if not spec.is_image:
        saw = f"a folder of images for input {spec.name!r} of shape {spec.dims}"
        raise InputError(saw, "a network that takes images", "Save arrays in an .npz, one an input.")
    _, height, width = spec.image
    given = network.metadata.arguments.get("val_resize_size")
    usual = given if isinstance(given, int) and given >= max(height, width) else round(max(height, width) / 0.875)
    baked = preprocess is not None
    if baked and channels:  # the recipe may have been a file, of which the network keeps the name alone
        recipe, order = None, channels
    else:
        recipe = recipe_of(preprocess or normalise or _usual_recipe(network))
        order = channels or recipe.input_channels
    return Pictures(
        height=height,
        width=width,
        resize=resize or (None if network.metadata.square else usual),
        recipe=None if baked else recipe,
        bgr=order == "bgr" if recipe is None or baked else recipe.channels == "bgr",
        channels_last=spec.channels_last,
    )


def _pictures_of_detector(network: Network, channels: str | None) -> Pictures:
    from ..deployment.pixels import recipe_of

    spec = network.input
    _, height, width = spec.image
    return Pictures(
        height=height,
        width=width,
        resize=None,
        recipe=None if spec.dtype == "uint8" else recipe_of("mmdet"),
        bgr=channels != "rgb",
        channels_last=spec.channels_last,
        detector=network.metadata.detector,
    )


def _usual_recipe(network: Network) -> str:
    if network.metadata.square:
        return "cifar"
    return "mmdet" if network.metadata.architecture.startswith("mmdet ") else "imagenet"
