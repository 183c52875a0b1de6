"""What ONNX Runtime's TensorRT provider is told of a model, beside what the user says.

Half types as the file stores them; a range of shapes where it is known; and a folder for the engines that it
builds, which takes minutes:

    <user's cache>/apa-deploy/tensorrt/<key>/        folders 0700

An engine is code, and the provider loads what lies there by a name that leaves out the weights. So each model has a
folder of its own, whose key holds everything that its engines depend on, and nobody else may write to it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import onnx
from onnx import TensorProto

from ..files import remove, sha256
from ..graph.node import all_nodes
from ..graph.read import read_graph
from ..graph.values import external_files
from ..progress import notice
from ..tensors.signature import ANY, Profile, Shape, TensorSpec, read_signature
from . import cache
from .ort_faults import element_types
from .providers import TENSORRT, Choice

_ENGINES, _SHAPES = "tensorrt", "trt_profile_"
_CACHE, _CACHE_FOLDER = "trt_engine_cache_enable", "trt_engine_cache_path"
_HALVES = {TensorProto.FLOAT16: "trt_fp16_enable", TensorProto.BFLOAT16: "trt_bf16_enable"}
_BFLOAT16_SINCE = (1, 23)  # an older provider refuses an option that it does not know
_UNUSED = 60 * 86400  # seconds


def complete_options(choice: Choice, path: Path, profile: Profile | None, version: str) -> Choice:
    """`choice` with what TensorRT's provider should know of the model at `path`; what the user says stays.

    Args:
        profile: the least, usual and largest shape of each input.
        version: ONNX Runtime's.
    """
    given = dict(choice.providers)[TENSORRT]
    model = read_graph(path)
    shapes = {} if any(name.startswith(_SHAPES) for name in given) else shape_options(profile, model)
    options = half_options(model, version) | shapes | given
    if _CACHE not in given and _CACHE_FOLDER not in given:
        try:
            folder = _engine_folder(_key(path, model, options, version))
            options |= {_CACHE: "True", _CACHE_FOLDER: str(folder)}
        except cache.CacheError as error:
            notice(f"TensorRT's engines are not kept: {error}")
    providers = tuple((name, options if name == TENSORRT else own) for name, own in choice.providers)
    return replace(choice, providers=providers, profiled=bool(shapes))


def half_options(model: onnx.ModelProto, version: str) -> dict[str, str]:
    """Leave for the half types that are in the file, and for no others."""
    stored = element_types(model, list(all_nodes(model)))
    old = tuple(map(int, version.split(".")[:2])) < _BFLOAT16_SINCE
    known = {kind: name for kind, name in _HALVES.items() if not (old and kind == TensorProto.BFLOAT16)}
    return {name: "True" for kind, name in known.items() if kind in stored}


def shape_options(profile: Profile | None, model: onnx.ModelProto) -> dict[str, str]:
    """The range of shapes, as the provider takes it: of every input with an open size, or of none."""
    inputs = [spec for spec in read_signature(model).inputs if ANY in spec.declared]
    names = {spec.name for spec in inputs}
    if not profile or not names or not names <= set(profile) or any(set(name) & set(",:") for name in names):
        return {}
    return {
        f"{_SHAPES}{which}_shapes": ",".join(f"{n}:{'x'.join(map(str, profile[n][i]))}" for n in sorted(names))
        for i, which in enumerate(("min", "opt", "max"))
    }


def profile_of(inputs: Sequence[TensorSpec], sample: Shape, batches: tuple[int, int, int]) -> Profile | None:
    """The range of shapes of `inputs`, whose first size is the batch; None where a size stays open.

    Args:
        sample: sizes of one sample, for inputs that leave theirs open.
        batches: the least, usual and largest.
    """
    found: dict[str, tuple[Shape, Shape, Shape]] = {}
    for spec in inputs:
        sizes = spec.declared[1:]
        if ANY in sizes and len(sizes) == len(sample):
            sizes = tuple(own if size == ANY else size for size, own in zip(sizes, sample, strict=True))
        if ANY in sizes or not spec.declared:
            return None
        least, usual, most = ((n if spec.declared[0] == ANY else spec.declared[0], *sizes) for n in batches)
        found[spec.name] = (least, usual, most)
    return found


def without_fault(choice: Choice, fault: str) -> Choice | None:
    """What to try once more where the provider says `fault`; None: nothing.

    A range of shapes must name every input of every part of the graph, which only the provider knows. An engine
    that was cut off as it was written is built again.
    """
    options = dict(choice.providers).get(TENSORRT, {})
    if choice.profiled and "associated profiles" in fault:
        notice("TensorRT's provider wants the shapes of inner values too: it builds for those that come")
        left = {name: value for name, value in options.items() if not name.startswith(_SHAPES)}
        providers = tuple((name, left if name == TENSORRT else own) for name, own in choice.providers)
        return replace(choice, providers=providers, profiled=False)
    folder = Path(options.get(_CACHE_FOLDER, ""))
    if "could not deserialize engine from cache" in fault and folder.parent.name == _ENGINES:
        engines = list(folder.iterdir())
        for engine in engines:
            remove(engine)
        return choice if engines else None
    return None


def _key(path: Path, model: onnx.ModelProto, options: Mapping[str, str], version: str) -> str:
    files = [path, *(path.parent / name for name in external_files(model))]
    plugins = [Path(name) for name in options.get("trt_extra_plugin_lib_paths", "").split(";") if name]
    said = [f"{name}={value}" for name, value in sorted(options.items())]
    hashes = [sha256(file) for file in (*files, *plugins) if file.is_file()]
    return hashlib.sha256("\n".join([*hashes, *said, version, _tensorrt_version()]).encode()).hexdigest()[:32]


def _tensorrt_version() -> str:
    """Of the TensorRT that the provider has loaded."""
    for major in range(8, 20):
        with suppress(OSError, AttributeError):
            return str(ctypes.CDLL(f"libnvinfer.so.{major}", mode=os.RTLD_NOLOAD).getInferLibVersion())
    return "unknown"


def _engine_folder(key: str) -> Path:
    """The folder of one model, and those that nobody used for long removed.

    Raises:
        CacheError: the cache cannot be trusted or used.
    """
    store = cache.folder(_ENGINES)
    path = store / key
    try:
        for other in store.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - other.lstat().st_mtime > _UNUSED:
                    remove(other)
        with suppress(FileNotFoundError):
            about = path.lstat()
            if not path.is_dir() or path.is_symlink() or about.st_uid != os.getuid() or about.st_mode & 0o077:
                remove(path)  # anybody may have put something there
        path.mkdir(mode=0o700, exist_ok=True)
        os.utime(path)
    except OSError as error:
        raise cache.CacheError(path, error.strerror or str(error), "a folder that can be written") from error
    return path
