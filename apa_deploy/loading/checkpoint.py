"""Any file of weights -> a state dict, without executing anything from it.

torch's restricted unpickler (`weights_only=True`) reads pickles, with a short list of names beyond its own:
`argparse.Namespace`, where upstream keeps its arguments, and the stand-ins of `stand_ins`.
"""

from __future__ import annotations

import _compat_pickle
import argparse
import dataclasses
import pickle
import pickletools
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..runtimes.artifacts import is_program, is_safetensors
from .archive import TRUST, check_archive, check_storages, is_zip
from .layouts import as_state, group_averages, state_in, unwrap_keys
from .shards import INDEX, METADATA, ShardError, files_of_index, lone_file, read_folder
from .stand_ins import ALLOWED, STAND_INS

_PICKLE = b"\x80"


class CheckpointError(InputError):
    """A file cannot be read as weights. `path`; `refused`: names that its pickle asks for."""

    def __init__(self, path: Path, saw: str, wanted: str, do: str, refused: tuple[str, ...] = ()) -> None:
        super().__init__(f"{path.name}: {saw}", wanted, do)
        self.path, self.refused = path, refused


@dataclass(frozen=True)
class Checkpoint:
    """Weights with prefixes of wrappers stripped, and what else the file says.

    `arguments`: upstream's training arguments, or {}. `weights`: which of WEIGHTS they are. `config`: the text of
    mmengine's config, or "". `classes`: the names of its data set's, or ().
    """

    state: dict[str, Tensor]
    arguments: dict[str, Any] = field(default_factory=dict)
    weights: str = "model"
    notices: tuple[str, ...] = ()
    config: str = ""
    classes: tuple[str, ...] = ()


def read_checkpoint(path: Path, weights: str = "model") -> Checkpoint:
    """The weights of a file of torch.save in any framework's layout, of safetensors, or of a folder of shards.

    Args:
        weights: "model", or "ema" for the averaged weights that training stored beside them.

    Raises:
        CheckpointError: the file is no such file, is damaged, asks for code to be run, or lacks the weights.
    """
    if path.is_dir() or path.name.endswith(INDEX):
        return organise(path, group_averages(_read_shards(path)), weights)
    if not path.is_file():
        raise CheckpointError(path, "no such file", "a checkpoint", "Check the path.")
    if path.stat().st_size == 0:
        raise CheckpointError(path, "an empty file", "a checkpoint", "Copy the file again.")
    if is_program(path):
        raise CheckpointError(path, "a program of torch.export", "weights, or leave to run the program", TRUST)
    if is_safetensors(path):
        state, arguments = _read_safetensors(path)
        return dataclasses.replace(organise(path, state, weights), arguments=arguments)
    content = read_pickle(path)
    return organise(path, content, weights)


def read_pickle(path: Path) -> Any:
    """What torch's restricted unpickler makes of a file; storages are checked against the file's size.

    Raises:
        CheckpointError: see `read_checkpoint`.
    """
    sizes = check_archive(path)
    try:
        with torch.serialization.safe_globals(ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of storages of old kinds, which are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, AttributeError, TypeError) as error:
        raise _refusal(path, error) from error
    except (RuntimeError, EOFError, KeyError, ValueError, IndexError, OSError, MemoryError) as error:
        raise _damage_error(path, error) from error
    check_storages(path, content, sizes)
    return content


def _refusal(path: Path, error: Exception) -> CheckpointError:
    names = unsafe_globals(path)
    if not names:
        return _damage_error(path, error)
    return CheckpointError(
        path,
        f"its pickle asks for {', '.join(names)}, which loading would import and may call",
        "tensors and plain values only",
        "Nothing was executed. Save the state dict alone (torch.save(model.state_dict(), ...)); "
        "--trust-pickle runs such code, for files that you made yourself.",
        names,
    )


def unsafe_globals(path: Path) -> tuple[str, ...]:
    """Names that a pickle asks for beyond what is allowed, without loading it."""
    try:
        if is_zip(path):
            with torch.serialization.safe_globals(ALLOWED):
                return tuple(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        operations = _operations(path)
    except (ValueError, RuntimeError, pickle.UnpicklingError, IndexError, EOFError, TypeError, KeyError):
        return ()
    known = {name for _, name in STAND_INS} | {"argparse.Namespace"}
    return tuple(name for name in dict.fromkeys(map(_modern, _global_names(operations))) if name not in known)


def _operations(path: Path) -> list[tuple[str, Any]]:
    """The operations of every pickle at the head of a file: torch's old format has several, then raw data."""
    found: list[tuple[str, Any]] = []
    with path.open("rb") as file:
        while file.peek(1)[:1] == _PICKLE:
            found += [(operation.name, argument) for operation, argument, _ in pickletools.genops(file)]
    return found


def _modern(name: str) -> str:
    """The name of today for one that pickle protocol 2 spells as Python 2 did."""
    module, _, attribute = name.rpartition(".")
    module, attribute = _compat_pickle.NAME_MAPPING.get((module, attribute), (module, attribute))
    return f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{attribute}"


def _global_names(operations: list[tuple[str, Any]]) -> list[str]:
    """`module.name` of every GLOBAL and STACK_GLOBAL of a pickle."""
    names: list[str] = []
    strings: list[str] = []
    for operation, argument in operations:
        if operation == "GLOBAL":
            names.append(str(argument).replace(" ", "."))
        elif operation == "STACK_GLOBAL" and len(strings) > 1:
            names.append(".".join(strings[-2:]))
        elif isinstance(argument, str):
            strings.append(argument)
    return [name for name in names if not name.startswith(("torch.", "torch._utils.", "collections."))]


def _damage_error(path: Path, error: Exception) -> CheckpointError:
    first = (str(error).splitlines() or [type(error).__name__])[0][:160]
    return CheckpointError(
        path, f"not readable as a torch checkpoint ({first})", "a file written by torch.save", "Copy it again."
    )


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            arguments = dict(file.metadata() or {})
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            path, f"not readable as safetensors ({error})", "a .safetensors file", "Copy the file again."
        ) from error
    return state, arguments


def _read_shards(path: Path) -> dict[str, Tensor]:
    """A folder of torch.distributed.checkpoint or of safetensors, or the index of shards."""
    try:
        if (path / METADATA).is_file():
            return read_folder(path, read_pickle)
        index = path if path.is_file() else next(iter(sorted(path.glob(f"*{INDEX}"))), None)
        state: dict[str, Tensor] = {}
        for file in files_of_index(index) if index else [lone_file(path)]:
            state |= _read_safetensors(file)[0] if is_safetensors(file) else read_checkpoint(file).state
        return state
    except ShardError as error:
        wanted = "one model's weights: of torch.distributed.checkpoint, shards with an index, or one file"
        raise CheckpointError(path, str(error), wanted, error.do) from error


def organise(path: Path, content: Any, weights: str) -> Checkpoint:
    """The weights in what a file holds.

    Raises:
        CheckpointError: there are none, or they are not finite.
    """
    checkpoint = _find_state(path, content, weights)
    _refuse_packed(path, checkpoint.state)
    return _check_state(path, checkpoint)


def _find_state(path: Path, content: Any, weights: str) -> Checkpoint:
    if not isinstance(content, Mapping | list | tuple):
        raise CheckpointError(
            path, f"a {type(content).__name__}", "a dict of tensors", "Save model.state_dict() with torch.save."
        )
    state = state_in(content, weights)
    if isinstance(content, list | tuple) and state is None:
        raise CheckpointError(
            path, f"a {type(content).__name__} without weights", "a dict of tensors", "Save model.state_dict()."
        )
    outer: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
    if state is None and weights == "ema" and (whole := state_in(content, "model")):
        state = {key: value for key, value in whole.items() if _AVERAGE.match(key)}  # averages beside the weights
    if not state:
        if weights == "ema":
            raise _no_ema(path, list(outer))
        raise _no_weights(
            path, list(outer), "Pass --weights ema." if state_in(content, "ema") else "Check the file."
        )
    floats = [value for value in state.values() if value.is_floating_point()]
    if floats and not any(value.numel() for value in floats):
        raise CheckpointError(
            path, "empty tensors: DeepSpeed's ZeRO-3 keeps the weights in the files beside", "whole weights",
            "Run zero_to_fp32.py, which DeepSpeed wrote into the folder, and give what it writes.",
        )  # fmt: skip
    notices = _ema_notice(outer) if weights == "model" else ()
    return Checkpoint(unwrap_keys(state), _arguments(outer), weights, notices, *_mmengine_meta(outer.get("meta")))


# Ends of keys of weights that are no plain numbers: who writes them, and how plain ones are had.
_PACKED = {
    ("._packed_params",): ("torch's quantised modules", "Save the float network's, before convert()."),
    (".quant_map", ".SCB"): ("bitsandbytes' codes", "Save model.dequantize().state_dict()."),
    (".qweight", ".qzeros"): ("codes of GPTQ or AWQ", "Save the float network's state dict."),
}


def _refuse_packed(path: Path, state: Mapping[str, Tensor]) -> None:
    for ends, (kind, do) in _PACKED.items():
        if key := next((key for key in state if key.endswith(ends)), None):
            raise CheckpointError(path, f"{kind} ({key[:60]})", "the network's own weights, as numbers", do)
    if state and all(".lora_" in key for key in state):
        do = "Save model.merge_and_unload().state_dict()."
        raise CheckpointError(path, "adapters of LoRA alone", "the network's own weights", do)


_AVERAGE = re.compile(r"(\w*_)?ema(_\w*)?\.")


def _ema_notice(content: Mapping[str, Any]) -> tuple[str, ...]:
    if as_state(content) or state_in(content, "ema") is None:
        return ()
    return ("the checkpoint also holds averaged weights (EMA), which are not used; --weights ema takes them",)


def _arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    arguments = content.get("args")
    if isinstance(arguments, argparse.Namespace):
        return vars(arguments)
    return dict(arguments) if isinstance(arguments, Mapping) else {}


def _mmengine_meta(meta: Any) -> tuple[str, tuple[str, ...]]:
    """The config's text and the class names that mmengine's Runner stores."""
    meta = meta if isinstance(meta, Mapping) else {}
    data = meta.get("dataset_meta")
    names = data.get("classes", data.get("CLASSES")) if isinstance(data, Mapping) else meta.get("CLASSES")
    legal = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    config = meta.get("cfg", meta.get("config"))
    if isinstance(config, Mapping):  # its values, of a file written by hand
        config = "\n".join(f"{name} = {value!r}" for name, value in config.items())
    return config if isinstance(config, str) else "", tuple(names) if legal else ()


def _check_state(path: Path, checkpoint: Checkpoint) -> Checkpoint:
    for key, value in checkpoint.state.items():
        if not value.is_floating_point():
            continue
        try:
            finite = bool(torch.isfinite(value if value.element_size() > 1 else value.float()).all())
        except NotImplementedError as error:  # two numbers in a byte
            saw = f"{key[:60]} is stored as {str(value.dtype).removeprefix('torch.')}"
            raise CheckpointError(path, saw, "weights that torch reads as float32", "Save them so.") from error
        if not finite:
            raise CheckpointError(
                path, f"{key[:60]} holds NaN or infinity", "finite weights", "Take an earlier epoch's checkpoint."
            )
    return checkpoint


def _names(keys: list[Any]) -> str:
    """A few keys, whatever they are: a key may be a tuple of tuples, whose text would fill the memory."""
    return ", ".join(key[:60] if isinstance(key, str) else type(key).__name__ for key in keys[:8])


def _no_ema(path: Path, keys: list[Any]) -> CheckpointError:
    return CheckpointError(
        path, f"no averaged weights among {_names(keys)}", "model_ema", "Leave --weights ema out."
    )


def _no_weights(path: Path, keys: list[Any], do: str) -> CheckpointError:
    return CheckpointError(
        path,
        f"no weights among {_names(keys)}",
        "a state dict, or one under 'model' or 'state_dict'",
        do,
    )
