"""config.pbtxt, through the published messages: what each model of a repository tells the server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from apa_deploy.runtimes.ort_faults import EXACT_PRODUCTS
from apa_deploy.tensors.signature import TensorSpec

from .artifact import Served, row_shapes

FILE, LABELS = "config.pbtxt", "labels.txt"
_OF_PICTURES = ("boxes", "masks")
WARM_UP = "warmup"
_BASIC = -1  # the server's backend takes a level of optimisation, and no names of passes
_QUEUE = 256  # requests; beyond, a client is told at once instead of waiting for ever


@dataclass(frozen=True)
class Backend:
    """`platform` "": it has none; `artifact`: the file's name in the version's folder."""

    name: str
    platform: str
    artifact: str


BACKENDS = {
    "tensorrt": Backend("tensorrt", "tensorrt_plan", "model.plan"),
    "onnxruntime": Backend("onnxruntime", "onnxruntime_onnx", "model.onnx"),
    "python": Backend("python", "", "model.onnx"),
}


@dataclass(frozen=True)
class InstanceOptions:
    """How a network runs. `delay`: seconds; `library`: of operators for ONNX Runtime, or "".

    `threads` 0: as many as the runtime likes. `on_cpu` False: on the GPUs that the server finds. `without`: passes
    of ONNX Runtime's optimiser that crash.
    """

    delay: float = 0.0
    instances: int = 1
    threads: int = 0
    on_cpu: bool = True
    library: str = ""
    without: tuple[str, ...] = ()


def network_config(
    name: str, backend: Backend, found: Served, running: InstanceOptions, labels: Sequence[str]
) -> Any:
    """The configuration of the model that holds the artifact."""
    batched = bool(found.signature.max_batch)
    config = pb.ModelConfig(name=name, backend=backend.name, platform=backend.platform)
    config.max_batch_size = found.signature.max_batch
    config.input.extend(_tensor(pb.ModelInput, spec, batched) for spec in found.signature.inputs)
    config.output.extend(_tensor(pb.ModelOutput, spec, batched) for spec in found.signature.outputs)
    for output in config.output:
        if labels and output.dims and output.dims[-1] == len(labels):
            output.label_filename = LABELS
    group = config.instance_group.add(count=running.instances)
    if running.on_cpu:
        group.kind = pb.ModelInstanceGroup.KIND_CPU
    elif running.library and backend.name == "onnxruntime":  # the operators for CUDA run on nothing else
        group.kind = pb.ModelInstanceGroup.KIND_GPU
    if batched:
        _batching(config, found, running)
    _warm_up(config, found)
    _runtime(config, backend, running)
    return config


def image_config(name: str, network: Any, parameters: dict[str, str]) -> Any:
    """The configuration of the model that turns pictures into the pixels of `network`'s input."""
    config = pb.ModelConfig(name=name, backend="python", max_batch_size=network.max_batch_size)
    config.input.add(name="image", data_type=pb.TYPE_STRING, dims=[1])
    config.output.add(name="pixels", data_type=pb.TYPE_UINT8, dims=_shape_of(parameters))
    config.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)
    _parameters(config, parameters)
    return config


def ensemble_config(name: str, image: Any, network: Any) -> Any:
    """Pictures in, the network's outputs out; both steps batch on their own."""
    config = pb.ModelConfig(name=name, platform="ensemble", max_batch_size=network.max_batch_size)
    config.input.extend(image.input)
    config.output.extend(network.output)
    first = config.ensemble_scheduling.step.add(model_name=image.name, model_version=-1)
    first.input_map["image"], first.output_map["pixels"] = "image", "pixels"
    second = config.ensemble_scheduling.step.add(model_name=network.name, model_version=-1)
    second.input_map[network.input[0].name] = "pixels"
    for output in network.output:
        second.output_map[output.name] = output.name
    return config


def detector_configs(name: str, network: Any, detector: dict[str, Any]) -> list[Any]:
    """Of a detector's ensemble: what prepares pictures, what takes boxes and masks back to them, and the whole."""
    batch, group = network.max_batch_size, {"count": 1, "kind": pb.ModelInstanceGroup.KIND_CPU}
    image = pb.ModelConfig(name=f"{name}_image", backend="python", max_batch_size=batch)
    image.input.add(name="image", data_type=pb.TYPE_STRING, dims=[1])
    image.output.extend(pb.ModelOutput(name=t.name, data_type=t.data_type, dims=t.dims) for t in network.input)
    image.output.add(name="sizes", data_type=pb.TYPE_FP32, dims=[4])
    _parameters(image, {"detector": json.dumps(detector)})
    boxes = pb.ModelConfig(name=f"{name}_boxes", backend="python", max_batch_size=batch)
    boxes.input.add(name="sizes", data_type=pb.TYPE_FP32, dims=[4])
    for tensor in network.output:
        if tensor.name in _OF_PICTURES:
            boxes.input.add(name=f"net_{tensor.name}", data_type=tensor.data_type, dims=tensor.dims)
            is_mask = tensor.name == "masks"
            kind, dims = (pb.TYPE_BOOL, [tensor.dims[0], -1, -1]) if is_mask else (tensor.data_type, tensor.dims)
            boxes.output.add(name=tensor.name, data_type=kind, dims=dims)
    _parameters(boxes, {"mask_thr": str(detector["mask_thr"])})
    for config in (image, boxes):
        config.instance_group.add(**group)
    return [image, boxes, _detector_ensemble(name, image, network, boxes)]


def _detector_ensemble(name: str, image: Any, network: Any, boxes: Any) -> Any:
    config = pb.ModelConfig(name=name, platform="ensemble", max_batch_size=network.max_batch_size)
    config.input.extend(image.input)
    own = {tensor.name: tensor for tensor in boxes.output}
    for tensor in network.output:
        changed = own.get(tensor.name, tensor)
        config.output.add(name=tensor.name, data_type=changed.data_type, dims=changed.dims)
    steps = [
        config.ensemble_scheduling.step.add(model_name=m.name, model_version=-1) for m in (image, network, boxes)
    ]
    first, second, last = steps
    first.input_map["image"] = "image"
    for tensor in image.output:
        first.output_map[tensor.name] = tensor.name
    for tensor in network.input:
        second.input_map[tensor.name] = tensor.name
    for tensor in network.output:
        second.output_map[tensor.name] = f"net_{tensor.name}" if tensor.name in own else tensor.name
    for tensor in boxes.input:
        last.input_map[tensor.name] = tensor.name
    for tensor in boxes.output:
        last.output_map[tensor.name] = tensor.name
    return config


def write_config(config: Any, folder: Path) -> None:
    """Write the message as text."""
    (folder / FILE).write_text(text_format.MessageToString(config), encoding="utf-8")


def _tensor(kind: Any, spec: TensorSpec, batched: bool) -> Any:
    dims = spec.declared[1:] if batched else spec.declared
    tensor = kind(name=spec.name, data_type=pb.DataType.Value(spec.datatype.config), dims=dims or [1])
    if batched and not dims:  # one number a row: Triton wants a size for it
        tensor.reshape.SetInParent()
    return tensor


def _batching(config: Any, found: Served, running: InstanceOptions) -> None:
    batching = config.dynamic_batching
    batching.SetInParent()
    batching.preferred_batch_size.extend(sorted(set(found.batches[1:])))
    batching.max_queue_delay_microseconds = round(running.delay * 1e6)
    batching.default_queue_policy.max_queue_size = _QUEUE


def _warm_up(config: Any, found: Served) -> None:
    """One run of each size that the profile names, before the model is ready."""
    if found.inputs is None:
        return
    shapes = row_shapes(found)
    sizes = set(found.batches) if config.max_batch_size else {0}
    for size in sorted(sizes):
        warm_up = config.model_warmup.add(name=f"batch {size}" if size else "once", batch_size=size)
        for at, tensor in enumerate(config.input):
            warm_up.inputs[tensor.name].CopyFrom(
                pb.ModelWarmup.Input(
                    data_type=tensor.data_type, dims=shapes[tensor.name], input_data_file=warm_up_file(at)
                )
            )


def warm_up_file(at: int) -> str:
    """Name of the file, in the model's warmup folder, that holds one row of the input at this place."""
    return f"input{at}"


def _runtime(config: Any, backend: Backend, running: InstanceOptions) -> None:
    if backend.name == "tensorrt":
        config.optimization.cuda.graphs = True  # as Session runs an engine: one launch a batch
        return
    _parameters(config, {"intra_op_thread_count": str(running.threads)})
    if backend.name == "python":
        more = {
            "artifact": backend.artifact,
            "disabled_optimizers": " ".join(running.without),
            "session_config_entry": "=".join(EXACT_PRODUCTS),
        }
        _parameters(config, more | ({"op_library_filename": running.library} if running.library else {}))
        return
    if running.library:
        config.model_operations.op_library_filename.append(running.library)
    if running.without and running.on_cpu:
        config.optimization.graph.level = _BASIC


def _parameters(config: Any, values: dict[str, str]) -> None:
    for key, value in values.items():
        config.parameters[key].string_value = value


def _shape_of(parameters: dict[str, str]) -> Iterable[int]:
    height, width = int(parameters["height"]), int(parameters["width"])
    return (3, height, width) if parameters["layout"] == "nchw" else (height, width, 3)
