"""How a model is served: `config.pbtxt`, where the model's folder has one, over the server's defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.json_format import MessageToDict

from ..errors import InputError
from ..require import require
from ..runtimes.session import ENGINE_SUFFIXES
from .signature import Signature, TensorSpec

FILE = "config.pbtxt"
DEFAULT_ARTIFACT = "model.onnx"
_PLATFORMS = (("onnxruntime_onnx", "onnxruntime"), ("tensorrt_plan", "tensorrt"))  # of ONNX files, of engines


@dataclass(frozen=True)
class ModelConfig:
    """Seconds and counts. `max_batch` 0: no batching. `message`: the file, None where there is none."""

    max_batch: int = 32
    delay: float = 0.0
    instances: int = 1
    queue: int = 256
    timeout: float = 60.0
    artifact: str = DEFAULT_ARTIFACT
    message: Any = None


class ConfigError(InputError):
    """A config.pbtxt cannot be used. `path`."""

    def __init__(self, path: Path, saw: str, wanted: str) -> None:
        super().__init__(f"{path}: {saw}", wanted, "Mend the file.")
        self.path = path


def read_config(path: Path | None, defaults: ModelConfig) -> ModelConfig:
    """`defaults`, overruled by the file at `path` (None: there is none).

    Raises:
        ConfigError: the file is no model configuration.
    """
    if path is None:
        return defaults
    try:
        message = text_format.Parse(path.read_text(encoding="utf-8"), _messages().ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise ConfigError(path, str(error).splitlines()[0], "a model configuration in text form") from error
    return replace(defaults, message=message, **_batching(message), **_running(message, path))


def _messages() -> Any:
    """Triton's messages; their package comes with an extra, and names of models are checked without it."""
    return require("tritonclient.grpc.model_config_pb2")


def versions_to_serve(config: ModelConfig, present: Sequence[int]) -> list[int]:
    """Those of `present` that the version policy chooses; without one, the latest."""
    policy: Any = (config.message or _messages().ModelConfig()).version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return sorted(present)
    if choice == "specific":
        return sorted(set(present) & set(policy.specific.versions))
    count = policy.latest.num_versions if choice == "latest" else 1
    return sorted(present)[-max(1, count) :]


def check_against(config: ModelConfig, signature: Signature, path: Path) -> None:
    """Hold the tensors that a config.pbtxt declares against those of the file.

    Raises:
        ConfigError: a name or datatype differs, or it wants batches of a model of fixed batch.
    """
    if config.message is None:
        return
    if config.message.max_batch_size and not signature.max_batch:
        raise ConfigError(path, f"max_batch_size {config.max_batch}", "0: the file's batch is fixed")
    _check_tensors(config.message.input, signature.inputs, path)
    _check_tensors(config.message.output, signature.outputs, path)


def config_document(config: ModelConfig, signature: Signature, name: str, artifact: Path) -> dict[str, Any]:
    """The configuration in force, as the protocol's configuration extension shows it."""
    platform, backend = _PLATFORMS[artifact.suffix in ENGINE_SUFFIXES]
    document = MessageToDict(config.message, preserving_proto_field_name=True) if config.message is not None else {}
    return document | {
        "name": name,
        "platform": document.get("platform", platform),
        "backend": document.get("backend", backend),
        "version_policy": document.get("version_policy", {"latest": {"num_versions": 1}}),
        "max_batch_size": signature.max_batch,
        "input": [_tensor(spec, signature) for spec in signature.inputs],
        "output": [_tensor(spec, signature) for spec in signature.outputs],
        "dynamic_batching": {
            "max_queue_delay_microseconds": round(config.delay * 1e6),
            "default_queue_policy": {
                "default_timeout_microseconds": round(config.timeout * 1e6),
                "max_queue_size": config.queue,
            },
        },
        "instance_group": [{"name": f"{name}_0", "kind": "KIND_CPU", "count": config.instances}],
        "default_model_filename": config.artifact,
    }


def labels(config: ModelConfig, folder: Path) -> dict[str, list[str]]:
    """Class names by output, from the label files that the configuration names; they lie in the model's folder."""
    if config.message is None:
        return {}
    named = {output.name: output.label_filename for output in config.message.output if output.label_filename}
    return {output: _label_lines(folder, file) for output, file in named.items()}


def _label_lines(folder: Path, file: str) -> list[str]:
    path = folder / file
    if Path(file).name != file or not path.is_file():
        raise ConfigError(folder / FILE, f"label_filename {file!r}", "a file in the model's folder")
    return path.read_text(encoding="utf-8").splitlines()


def _batching(message: Any) -> dict[str, Any]:
    """In a config.pbtxt an absent max_batch_size is 0, no batching, and an absent delay is 0."""
    settings: dict[str, Any] = {"max_batch": message.max_batch_size}
    if message.HasField("dynamic_batching"):
        batching = message.dynamic_batching
        settings["delay"] = batching.max_queue_delay_microseconds / 1e6
        policy = batching.default_queue_policy
        if policy.max_queue_size:
            settings["queue"] = policy.max_queue_size
        if policy.default_timeout_microseconds:
            settings["timeout"] = policy.default_timeout_microseconds / 1e6
    return settings


def _running(message: Any, path: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    count = sum(max(1, group.count) for group in message.instance_group)
    if count:
        settings["instances"] = count
    if name := message.default_model_filename:
        if Path(name).name != name:
            raise ConfigError(path, f"default_model_filename {name!r}", "a name without a folder")
        settings["artifact"] = name
    return settings


def _check_tensors(declared: Sequence[Any], specs: Sequence[TensorSpec], path: Path) -> None:
    types = {spec.name: spec.datatype.config for spec in specs}
    for tensor in declared:
        kind = _messages().DataType.Name(tensor.data_type)
        if types.get(tensor.name) != kind:
            wanted = ", ".join(f"{name} {type_}" for name, type_ in types.items())
            raise ConfigError(path, f"{tensor.name} {kind}", f"the file's {wanted}")


def _tensor(spec: TensorSpec, signature: Signature) -> dict[str, Any]:
    dims = spec.dims[1:] if signature.max_batch else spec.dims
    return {"name": spec.name, "data_type": spec.datatype.config, "dims": list(dims)}
