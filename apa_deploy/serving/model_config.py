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
from ..runtimes.artifacts import ENGINE, artifact_kind
from ..tensors.signature import ANY, TensorSpec
from .options import most_instances
from .signature import RequestSignature

FILE = "config.pbtxt"
DEFAULT_ARTIFACT = "model.onnx"
_PLATFORMS = (("onnxruntime_onnx", "onnxruntime"), ("tensorrt_plan", "tensorrt"))  # of ONNX files, of engines

_UNSUPPORTED = ("sequence_batching", "ensemble_scheduling")
_IGNORED = (
    "optimization",
    "response_cache",
    "model_warmup",
    "cc_model_filenames",
    "model_operations",
    "parameters",
)


@dataclass(frozen=True)
class ModelConfig:
    """Seconds and counts. `max_batch` 0: no batching. `message`: the file, None where there is none.

    `combine`: requests of several clients may run together.
    """

    max_batch: int = 32
    delay: float = 0.0
    instances: int = 1
    queue: int = 256
    timeout: float = 60.0
    artifact: str = DEFAULT_ARTIFACT
    message: Any = None
    combine: bool = True


class ModelConfigError(InputError):
    """A config.pbtxt cannot be used. `path`."""

    def __init__(self, path: Path, saw: str, wanted: str) -> None:
        super().__init__(f"{path}: {saw}", wanted, "Correct the file.")
        self.path = path


def read_model_config(path: Path | None, defaults: ModelConfig) -> ModelConfig:
    """`defaults`, overruled by the file at `path` (None: there is none).

    Raises:
        ConfigError: the file is no model configuration.
    """
    if path is None:
        return defaults
    try:
        message = text_format.Parse(path.read_text(encoding="utf-8"), _messages().ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise ModelConfigError(path, str(error).splitlines()[0], "a model configuration in text form") from error
    return replace(defaults, message=message, **_batching(message, path, defaults), **_running(message, path))


def check_kind(config: ModelConfig, path: Path, name: str) -> None:
    """Hold a config.pbtxt against the folder's `name` and what this server does.

    Raises:
        ConfigError: it is for another model, or for scheduling that is more than to answer each request.
    """
    if config.message.name not in ("", name):
        raise ModelConfigError(path, f"name {config.message.name!r}", f"{name!r}, as the folder, or none")
    unsupported = [field for field in _UNSUPPORTED if config.message.HasField(field)]
    if config.message.model_transaction_policy.decoupled:
        unsupported.append("a decoupled model")
    if unsupported:
        raise ModelConfigError(path, unsupported[0], "a model that answers each request by itself")


def find_ignored_fields(config: ModelConfig, artifact: Path) -> list[str]:
    """What an operator may think is in force and is not, as notices."""
    if config.message is None:
        return []
    fields = [field.name for field, _ in config.message.ListFields() if field.name in _IGNORED]
    on_gpu = any(group.kind == type(group).KIND_GPU for group in config.message.instance_group)
    if on_gpu and artifact_kind(artifact) is not ENGINE:
        fields.append("KIND_GPU (see --provider)")
    return [f"config.pbtxt: {', '.join(fields)} not heeded"] if fields else []


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


def versions_by_name(config: ModelConfig) -> list[int]:
    """Those that the version policy names, if it names any."""
    return list(config.message.version_policy.specific.versions) if config.message is not None else []


def apply_config(config: ModelConfig, signature: RequestSignature, path: Path, artifact: Path) -> RequestSignature:
    """The file's signature, where its sizes are open narrowed to what the config.pbtxt at `path` declares.

    Raises:
        ConfigError: a name, datatype, size or platform contradicts the file, or it wants batches where the batch is
            fixed.
    """
    if config.message is None:
        return signature
    _check_platform(config.message, path, artifact)
    if config.message.max_batch_size and not signature.max_batch:
        raise ModelConfigError(path, f"max_batch_size {config.max_batch}", "0: the file's batch is fixed")
    if config.message.max_batch_size < 0:
        raise ModelConfigError(path, f"max_batch_size {config.message.max_batch_size}", "0 or more")
    inputs = _declare_sizes(config, signature.inputs, config.message.input, path)
    outputs = _declare_sizes(config, signature.outputs, config.message.output, path)
    return replace(signature, inputs=inputs, outputs=outputs)


def _check_platform(message: Any, path: Path, artifact: Path) -> None:
    platform, backend = _PLATFORMS[artifact_kind(artifact) is ENGINE]
    if message.platform not in ("", platform):
        raise ModelConfigError(path, f"platform {message.platform!r}", f"{platform!r}: the file is {artifact.name}")
    # a repository of `apa-export --format triton --backend python` holds the network itself beside its model.py
    if message.backend not in ("", backend, *(["python"] if backend == "onnxruntime" else [])):
        raise ModelConfigError(path, f"backend {message.backend!r}", f"{backend!r}: the file is {artifact.name}")


def config_document(config: ModelConfig, signature: RequestSignature, name: str, artifact: Path) -> dict[str, Any]:
    """The configuration in force, as the protocol's configuration extension shows it."""
    platform, backend = _PLATFORMS[artifact_kind(artifact) is ENGINE]
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
        raise ModelConfigError(folder / FILE, f"label_filename {file!r}", "a file in the model's folder")
    return path.read_text(encoding="utf-8").splitlines()


def _batching(message: Any, path: Path, defaults: ModelConfig) -> dict[str, Any]:
    """An absent max_batch_size is 0, no batching; without dynamic_batching each request runs alone."""
    settings: dict[str, Any] = {"max_batch": message.max_batch_size, "delay": 0.0}
    settings["combine"] = message.HasField("dynamic_batching")
    if message.HasField("dynamic_batching"):
        batching = message.dynamic_batching
        settings["delay"] = batching.max_queue_delay_microseconds / 1e6
        if settings["delay"] > defaults.timeout:
            saw = f"max_queue_delay_microseconds {batching.max_queue_delay_microseconds}"
            wanted = f"at most {defaults.timeout * 1e6:.0f}, for no request waits longer (--request-timeout)"
            raise ModelConfigError(path, saw, wanted)
        policy = batching.default_queue_policy
        if policy.max_queue_size:
            settings["queue"] = policy.max_queue_size
        if policy.default_timeout_microseconds:
            settings["timeout"] = min(defaults.timeout, policy.default_timeout_microseconds / 1e6)
    return settings


def _running(message: Any, path: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    counts = [group.count for group in message.instance_group]
    if any(count < 0 for count in counts):
        raise ModelConfigError(path, f"instance_group with a count of {min(counts)}", "1 or more; 0 means 1")
    if (total := sum(max(1, count) for count in counts)) > most_instances():
        wanted = f"at most {most_instances()} on this machine"
        raise ModelConfigError(path, f"{total} instances in instance_group", wanted)
    if total:
        settings["instances"] = total
    if name := message.default_model_filename:
        if Path(name).name != name:
            raise ModelConfigError(path, f"default_model_filename {name!r}", "a name without a folder")
        settings["artifact"] = name
    return settings


def _declare_sizes(
    config: ModelConfig, specs: Sequence[TensorSpec], declared: Sequence[Any], path: Path
) -> tuple[TensorSpec, ...]:
    """The file's tensors with the sizes that are declared for them."""
    by_name = {spec.name: spec for spec in specs}
    for tensor in declared:
        kind = _messages().DataType.Name(tensor.data_type)
        spec = by_name.get(tensor.name)
        if spec is None or spec.datatype.config != kind:
            wanted = ", ".join(f"{one.name} {one.datatype.config}" for one in specs)
            raise ModelConfigError(path, f"{tensor.name} {kind}", f"the file's {wanted}")
        if tensor.HasField("reshape"):
            alone = list(tensor.dims) == [1] and not tensor.reshape.shape and len(spec.declared) == 1
            if not (alone and config.max_batch):
                raise ModelConfigError(path, f"reshape of {tensor.name}", "the file's own shape")
            continue  # one number a row, for which Triton wants a size
        # without max_batch_size the batch belongs to the dims; many files leave it out all the same
        leaves_out = spec.declared[:1] == (ANY,) and len(tensor.dims) == len(spec.declared) - 1
        by_name[tensor.name] = _narrow(spec, tensor.dims, path, behind=int(config.max_batch > 0 or leaves_out))
    return tuple(by_name.values())


def _narrow(spec: TensorSpec, declared: Sequence[int], path: Path, *, behind: int) -> TensorSpec:
    """`spec` with the declared sizes; `behind`: 1 where the batch in front is not declared."""
    dims = spec.declared[behind:]
    fits = len(dims) == len(declared) and all(ANY in (a, b) or a == b for a, b in zip(dims, declared, strict=True))
    if declared and not fits:
        raise ModelConfigError(path, f"{spec.name} of dims {list(declared)}", f"{list(dims)}, as the file")
    sizes = tuple(a if a != ANY else b for a, b in zip(dims, declared, strict=True)) if declared else dims
    return TensorSpec.of_sizes(spec.name, spec.dtype, (*spec.declared[:behind], *sizes), spec.largest)


def _tensor(spec: TensorSpec, signature: RequestSignature) -> dict[str, Any]:
    dims = spec.declared[1:] if signature.max_batch else spec.declared
    return {"name": spec.name, "data_type": spec.datatype.config, "dims": list(dims)}
