"""Run the reference: in float64, which is the truth; in float32; and stored in half types where that is wanted."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ..errors import InputError
from ..inspection import inspected_module
from ..records.passport import ActivationRecord
from ..report.inspection import activation_record
from .data import Batch, Data, Digest, batches
from .pictures import Pictures
from .source import Loading, Source, model_of

if TYPE_CHECKING:
    from ..loading.load import Model

TRUTH, FLOAT32 = "float64", "float32"


class ReferenceJob(BaseModel):
    """`inputs`: as the user named them. `stored`: half types of the candidates. `normalise`, `resize`: images."""

    source: Source
    loading: Loading
    inputs: str | None = None
    batch: int | None = None
    fixed: bool = False
    stored: list[str] = []
    normalise: str | None = None
    resize: int | None = None


class ReferenceAnswer(BaseModel):
    """What every candidate is held against. `sha256`: of the file that the module was made from, or ""."""

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


def run_reference(job: ReferenceJob) -> tuple[ReferenceAnswer, dict[str, list[dict[str, Any]]]]:
    """The answer, and the outputs of each evaluation: a list of {name: array}, one a batch.

    Raises:
        InputError: the reference or the inputs cannot be used.
    """
    model = model_of(job.source, job.loading)
    data = resolved(model, job)
    digest, labels = Digest(), []
    stream = digest.of(batches(data))
    first = next(stream, None)
    if first is None:
        raise InputError(f"--inputs {job.inputs}: no batch", "at least one sample", "Check the data, or --batch.")
    modules = evaluations(model, job.stored)
    names = output_names(model, first)
    recorded: dict[str, list[dict[str, Any]]] = {name: [] for name in modules}
    with ExitStack() as stack:
        runners = _runners(modules, first, names, stack)
        for batch in _chained(first, stream):
            for name, runner in runners.items():
                recorded[name].append(_outputs(runner, batch, job.source.name))
            labels.append(batch.labels)
    known = [one for one in labels if one is not None]
    answer = ReferenceAnswer(
        data=data,
        output_names=list(names),
        labels=[int(v) for one in known for v in one] if len(known) == len(labels) else None,
        samples=digest.samples,
        batches=digest.batches,
        digest=digest.hex,
        architecture=model.metadata.architecture,
        weights=model.metadata.weights,
        sha256=model.metadata.sha256,
        bytes=model.metadata.bytes,
        curves=[activation_record(one) for one in inspected_module(copy.deepcopy(model.module))],
        notices=list(model.metadata.notices),
    )
    return answer, recorded


def evaluations(model: Model, stored: Sequence[str]) -> dict[str, Any]:
    """Evaluation -> (module, torch type): float64, float32, and float64 that stores its values in a half type."""
    import torch

    from ..parity.storage import stored_in
    from ..replace import replace_activations

    modules = {
        TRUTH: (copy.deepcopy(model.module).double(), torch.float64),
        FLOAT32: (model.module, torch.float32),
    }
    if stored:
        paths = [found.path for found in replace_activations(copy.deepcopy(model.module)).found]
        modules |= {name: (stored_in(model.module, name, paths), torch.float64) for name in stored}
    return modules


def output_names(model: Model, batch: Batch) -> tuple[str, ...]:
    """Names of the outputs, as an export gives them."""
    if model.metadata.output_names:
        return model.metadata.output_names
    import torch

    from ..parity.runners import cast_floats

    with torch.inference_mode():
        try:
            made = model.module(*(cast_floats(array, torch.float32) for array in batch.feed.values()))
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise _refused(batch, error, model.metadata.architecture) from error
    count = 1 if isinstance(made, torch.Tensor) else len(made)
    return ("logits",) if count == 1 else tuple(f"output_{i}" for i in range(count))


def _refused(batch: Batch, error: Exception, name: str) -> InputError:
    shapes = ", ".join(f"{key} of shape {value.shape}" for key, value in batch.feed.items())
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{shapes}: {reason}", f"inputs that {name} takes", "Check --inputs or --input-shape.")


def _runners(modules: dict[str, Any], first: Batch, names: Sequence[str], stack: ExitStack) -> dict[str, Any]:
    from ..parity.runners import TorchRunner

    made = {name: TorchRunner(module, first.feed, names, dtype, name) for name, (module, dtype) in modules.items()}
    return {name: stack.enter_context(runner) for name, runner in made.items()}


def _outputs(runner: Any, batch: Batch, name: str) -> dict[str, Any]:
    try:
        return dict(runner.infer(batch.feed, check_inputs=False))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise _refused(batch, error, name) from error


def _chained(first: Batch, rest: Any) -> Any:
    yield first
    yield from rest


def resolved(model: Model, job: ReferenceJob) -> Data:
    """Where the inputs come from, and how images become inputs of `model`."""
    from pathlib import Path

    from ..parity.inputs import INPUT

    is_folder = job.inputs is not None and Path(job.inputs).is_dir()
    needs_shape = job.inputs is None or is_folder
    spec = model.input if needs_shape or model.input_shape else None
    return Data(
        text=job.inputs,
        name=INPUT,
        spec=spec,
        batch=job.batch,
        fixed=job.fixed,
        pictures=_pictures(model, job) if is_folder else None,
        classes=model.metadata.labels,
    )


def _pictures(model: Model, job: ReferenceJob) -> Pictures:
    """Upstream's evaluation: CIFAR as it is; else the shorter side `val_resize_size`, then the centre."""
    from ..deployment.pixels import recipe_of

    spec = model.input
    _, height, width = spec.image
    given = model.metadata.arguments.get("val_resize_size")
    usual = given if isinstance(given, int) and given >= max(height, width) else round(max(height, width) / 0.875)
    baked = job.loading.deployment.get("preprocess")
    recipe = recipe_of(baked or job.normalise or _usual_recipe(model))
    order = job.loading.deployment.get("channels") or recipe.input_channels
    return Pictures(
        height=height,
        width=width,
        resize=job.resize or (None if model.metadata.square else usual),
        recipe=None if baked else recipe,
        bgr=order == "bgr" if baked else recipe.channels == "bgr",
        channels_last=spec.channels_last,
    )


def _usual_recipe(model: Model) -> str:
    if model.metadata.square:
        return "cifar"
    return "mmdet" if model.metadata.architecture.startswith("mmdet ") else "imagenet"
