"""Hostile and broken files, one function each: `FILES[name] = (suffix, write, what the message must say)`.

Every payload creates the file `executed` in the current folder if it ever runs.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import pickle
import struct
import subprocess
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch

from tests.attacks.graphs import ROWS

STATE = OrderedDict(weight=torch.ones(2, 2))
COMMAND = "touch executed"


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments

    def __call__(self):
        """Only so that pickle takes a call for the function of another."""


SYSTEM = Call(os.system, COMMAND)
EVAL = Call(eval, f"__import__('os').system({COMMAND!r})")
POPEN = Call(subprocess.Popen, COMMAND, -1, None, None, None, None, None, True, True)
GETATTR = Call(Call(getattr, Call(importlib.import_module, "os"), "system"), COMMAND)


def saved(content, **options):
    return lambda path: torch.save(content, path, **options)


def pickled(content, protocol=2):
    return lambda path: path.write_bytes(pickle.dumps(content, protocol))


def text(path: Path) -> None:
    path.write_text("these are not weights\n" * 50)


def truncated(path: Path) -> None:
    torch.save(dict(STATE, more=torch.ones(10_000)), path)
    path.write_bytes(path.read_bytes()[:-20_000])


def rezipped(path: Path, edit: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """A checkpoint whose members went through `edit`."""
    buffer = io.BytesIO()
    torch.save(dict(STATE), buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w", compression) as target:
        for member in source.infolist():
            target.writestr(member.filename, edit(member.filename, source.read(member)))


def pickle_swapped_in_the_archive(path: Path) -> None:
    rezipped(path, lambda name, data: pickle.dumps(SYSTEM, 2) if name.endswith("data.pkl") else data)


def zip_bomb(path: Path) -> None:
    """Two gigabytes of zeros in two megabytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        with target.open("archive/data.pkl", "w", force_zip64=True) as member:
            for _ in range(2048):
                member.write(bytes(1 << 20))
        target.writestr("archive/version", "3")


def overlapping_members(path: Path) -> None:
    """A hundred members that are all the same megabyte of the file."""
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("archive/data.pkl", pickle.dumps({}, 2))
        target.writestr("archive/data/0", bytes(1 << 20))
        big = target.getinfo("archive/data/0")
        for i in range(1, 100):
            copy = zipfile.ZipInfo(f"archive/data/{i}")
            copy.header_offset, copy.file_size, copy.compress_size, copy.CRC = (
                big.header_offset, big.file_size, big.compress_size, big.CRC,
            )  # fmt: skip
            target.filelist.append(copy)
            target.NameToInfo[copy.filename] = copy


def endless_tensor(path: Path) -> None:
    """A view with strides of zero: four bytes that claim to be four terabytes."""
    torch.save({"weight": torch.ones(1).expand(1 << 20, 1 << 20)}, path)


def storage_beyond_its_member(path: Path) -> None:
    """The pickle claims more elements than the archive holds: reading them reads foreign memory."""
    rezipped(path, lambda name, data: data[:4] if "/data/" in name else data)


def absurd_size(path: Path) -> None:
    """The pickle of a 2x2 tensor, edited to say 2 by 2^31 - 1."""

    def edit(name: str, data: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return data
        return data.replace(b"K\x02K\x02\x86", b"K\x02J\xff\xff\xff\x7f\x86", 1)

    rezipped(path, edit)


def tuples_of_tuples(path: Path) -> None:
    """A value whose text has 2^60 characters, though its pickle is small."""
    value: tuple[object, ...] = ()
    for _ in range(60):
        value = (value, value)
    path.write_bytes(pickle.dumps({"model": value}, 2))


def many_blocks(path: Path) -> None:
    """Keys that claim ten thousand blocks."""
    torch.save({"conv1.weight": torch.ones(16, 3, 3, 3), "layer1.0.conv1.weight": torch.ones(16, 16, 3, 3),
                "layer1.9999.conv1.weight": torch.ones(16, 16, 3, 3)}, path)  # fmt: skip


def wide_stage(path: Path) -> None:
    """A stage of half a million channels, in two megabytes: its convolutions would need terabytes."""
    state = {"conv1.weight": torch.ones(64, 3, 7, 7), "fc.weight": torch.ones(10, 1 << 19)}
    for stage, planes in enumerate((64, 128, 256, 1 << 19), start=1):
        state |= {f"layer{stage}.0.conv1.weight": torch.ones(1, 1, 1, 1)}
        state |= {f"layer{stage}.0.conv2.weight": torch.ones(planes, 1, 1, 1)}
    torch.save(state, path)


def empty_axis(path: Path) -> None:
    state = {"conv1.weight": torch.ones(64, 3, 7, 7), "layer1.0.conv1.weight": torch.ones(1, 1, 1, 1)}
    state |= {"layer1.0.conv2.weight": torch.ones(64, 0, 3, 3), "layer1.0.conv3.weight": torch.ones(256, 64, 1, 1)}
    torch.save(state, path)


def not_numbers(path: Path) -> None:
    torch.save({"weight": torch.tensor([1.0, float("nan")])}, path)


def integers_for_weights(path: Path) -> None:
    from apa_deploy.architectures.resnet import ResNet
    from tests.architectures.test_infer import CIFAR

    torch.save({k: v.long() for k, v in ResNet(CIFAR).state_dict().items()}, path)


def safetensors(header: dict | bytes, data: bytes = b"", length: int | None = None) -> Callable[[Path], None]:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return lambda path: path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)


def nested(path: Path) -> None:
    parts = [torch.ones(2), torch.ones(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"weight": torch.nested.nested_tensor(parts)}, path)


def tensor(offsets: list[int], shape: list[int], dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


REFUSED = "Nothing was executed"
DAMAGED = "not readable"
FILES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "os.system in the arguments": (".pth", saved({"model": STATE, "args": SYSTEM}), "posix.system"),
    "os.system inside a Namespace": (".pth", saved({"m": STATE, "args": argparse.Namespace(a=SYSTEM)}), REFUSED),
    "eval in the optimizer": (".pth", saved({"model": STATE, "optimizer": {"state": EVAL}}), "builtins.eval"),
    "Popen in a bare pickle": (".pth", pickled(POPEN), "subprocess.Popen"),
    "os.system in a pickle of protocol 4": (".pth", pickled(SYSTEM, 4), "posix.system"),
    "getattr to reach a function": (".pth", pickled(GETATTR, 4), REFUSED),
    "old format, without zip": (".pth", saved({"m": EVAL}, _use_new_zipfile_serialization=False), "eval"),
    "a pickle swapped in the archive": (".pt", pickle_swapped_in_the_archive, "posix.system"),
    "a pickled module": (".pt", saved(torch.nn.Sequential(torch.nn.ReLU())), REFUSED),
    "zip bomb": (".pth", zip_bomb, "is compressed"),
    "overlapping members": (".pth", overlapping_members, "larger together"),
    "text": (".pth", text, DAMAGED),
    "empty": (".pth", lambda path: path.touch(), "empty"),
    "truncated": (".pth", truncated, ""),
    "a list": (".pth", saved([1, 2, 3]), "a list"),
    "a tensor": (".pth", saved(torch.ones(3)), "a Tensor"),
    "NaN": (".pth", not_numbers, "NaN"),
    "endless tensor": (".pth", endless_tensor, "bytes of storage"),
    "storage beyond its member": (".pth", storage_beyond_its_member, ""),
    "absurd size": (".pth", absurd_size, ""),
    "tuples of tuples": (".pth", tuples_of_tuples, ""),
    "many blocks": (".pth", many_blocks, "gaps"),
    "wide stage": (".pth", wide_stage, "missing"),
    "an empty axis": (".pth", empty_axis, "(64, 0, 3, 3)"),
    "integers for weights": (".pth", integers_for_weights, "int64"),
    "safetensors: absurd header": (".safetensors", safetensors(b"{}", length=1 << 60), DAMAGED),
    "safetensors: no JSON": (".safetensors", safetensors(b"{weights"), DAMAGED),
    "safetensors: beyond the end": (".safetensors", safetensors({"w": tensor([0, 40], [10])}, b"1234"), DAMAGED),
    "safetensors: overlapping": (
        ".safetensors", safetensors({"a": tensor([0, 8], [2]), "b": tensor([4, 12], [2])}, bytes(12)), DAMAGED),
    "safetensors: absurd shape": (".safetensors", safetensors({"w": tensor([0, 4], [1 << 40])}, bytes(4)), DAMAGED),
    "safetensors: NaN in 8 bits": (
        ".safetensors", safetensors({"w": tensor([0, 1], [1], "F8_E5M2")}, b"\x7e"), "NaN"),
    "safetensors: two numbers in a byte": (
        ".safetensors", safetensors({"w": tensor([0, 1], [2], "F4")}, b"\0"), "float4"),
    "a nested tensor": (".pth", nested, "a nested tensor"),
    "a sparse tensor": (".pth", saved({"weight": torch.eye(3).to_sparse()}), "a sparse_coo tensor"),
    "a head of no name": (
        ".pth", saved({"model": STATE, "args": {"classif_norm": "\x1b[31mevil\n"}}), "with classif_norm"),
    "a head that is a list": (".pth", saved({"model": STATE, "args": {"classif_norm": [[]]}}), "of type list"),
    "safetensors: empty": (".safetensors", lambda path: path.touch(), "empty"),
    **ROWS,
}  # fmt: skip
