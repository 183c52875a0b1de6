"""Which models a file or folder holds, under which names and versions. Requests are looked up here, never on disk.

model.onnx                     -> model "model", version 1
folder/1/model.onnx            -> model "folder", as in Triton
repository/a.onnx              -> model "a", version 1; a.engine likewise
repository/b/3/model.onnx      -> model "b", version 3; b/config.pbtxt where there is one
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..runtimes.artifacts import ENGINE, ONNX
from .model_config import (
    DEFAULT_ARTIFACT,
    FILE,
    ModelConfig,
    check_kind,
    read_model_config,
    versions_by_name,
    versions_to_serve,
)

_NOT_MODELS = ("lost+found",)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")
_SUFFIXES = (*ONNX.suffixes, *ENGINE.suffixes)  # what a folder offers is told by names
Fingerprint = tuple[tuple[str, int, int, int], ...]


class LayoutError(InputError):
    """A file or folder cannot be served. `path`."""

    def __init__(self, path: Path, saw: str, wanted: str, do: str) -> None:
        super().__init__(f"{path}: {saw}", wanted, do)
        self.path = path


@dataclass(frozen=True)
class Artifact:
    """One version of a model: its file, and what tells a replaced file from the old one."""

    model: str
    version: int
    path: Path
    config: ModelConfig
    fingerprint: Fingerprint


@dataclass
class Entry:
    """A model by name: its artifacts by version, or why it cannot be served."""

    name: str
    artifacts: dict[int, Artifact] = field(default_factory=dict)
    error: InputError | None = None


def scan(source: Path, defaults: ModelConfig) -> dict[str, Entry]:
    """The models of `source` as they are on disk now.

    Raises:
        LayoutError: `source` holds no model.
    """
    root = source.resolve()
    entries: dict[str, Entry] = {}
    for path in _model_paths(source):
        entry = _entry(path, root if root.is_dir() else root.parent, defaults)
        if entry.name in entries:
            entry.artifacts = {}
            entry.error = LayoutError(source, f"two models named {entry.name}", "one", "Rename one of them.")
        entries[entry.name] = entry
    return entries


def fingerprint(artifact: Path, config: Path | None) -> Fingerprint:
    """Identity of one version's files: the artifact, what is named after it (weights, passport), the config."""
    files = sorted(path for path in artifact.parent.iterdir() if path.name.startswith(artifact.name))
    return tuple(_identity(path) for path in [*files, *([config] if config else [])])


def _identity(path: Path) -> tuple[str, int, int, int]:
    found = path.stat()
    return path.name, found.st_ino, found.st_size, found.st_mtime_ns


def _model_paths(source: Path) -> list[Path]:
    if source.is_file() or _is_model_folder(source):
        return [source.absolute()]
    if not source.is_dir():
        saw = "a pipe or a device" if source.exists() else "no such file or folder"
        raise LayoutError(source, saw, "an .onnx or .engine file, or a model repository", "Check the path.")
    found = [path for path in sorted(source.absolute().iterdir()) if _is_model(path)]
    if not found:
        raise LayoutError(source, "no model", "NAME.onnx or NAME/1/model.onnx", "Export one with apa-export.")
    return found


def _is_model(path: Path) -> bool:
    """Whether an entry of a repository is meant to be a model.

    Hidden entries are not (temporary ones, Git's, the `..data` of a Kubernetes volume), nor what a file system or
    another tool keeps there: a folder without a version, a configuration or a model's file.
    """
    if path.name.startswith(".") or path.name in _NOT_MODELS:
        return False
    if path.suffix in _SUFFIXES or not path.is_dir():
        return path.suffix in _SUFFIXES
    try:
        children = list(path.iterdir())
    except OSError:
        return True  # whatever it is, its permissions are worth a word
    return any(child.name == FILE or child.suffix in _SUFFIXES or child.name.isdigit() for child in children)


def _is_model_folder(path: Path) -> bool:
    return path.is_dir() and any(_version_folders(path))


def _version_folders(path: Path) -> Iterator[Path]:
    return (child for child in path.iterdir() if _version(child.name) and child.is_dir())


def _version(name: str) -> int:
    """The version that a folder's name stands for, 0 where it stands for none."""
    return int(name) if name.isascii() and name.isdigit() and name[0] != "0" and len(name) < 19 else 0


def _entry(path: Path, root: Path, defaults: ModelConfig) -> Entry:
    entry = Entry(path.stem if path.suffix in _SUFFIXES else path.name)
    try:
        check_name(path, entry.name)
        entry.artifacts = _artifacts(path, entry.name, root, defaults)
    except InputError as error:
        entry.error = error
    except OSError as error:
        entry.error = LayoutError(path, error.strerror or "unreadable", "readable files", "Check the permissions.")
    return entry


def check_name(path: Path, name: str, do: str = "Rename it.") -> None:
    """Raise `LayoutError` unless `name` can name a model, here and in Triton."""
    if not _NAME.fullmatch(name):
        wanted = "letters, digits, and _ . + - after the first"
        raise LayoutError(path, f"the name {name[:80]!r}", wanted, do)


def _artifacts(path: Path, name: str, root: Path, defaults: ModelConfig) -> dict[int, Artifact]:
    if path.is_file():
        inside = _inside(path, root)
        return {1: Artifact(name, 1, inside, defaults, fingerprint(inside, None))}
    if path.exists() and not path.is_dir():
        raise LayoutError(path, "a pipe or a device", "a file or a folder", "Take it away.")
    file = path / FILE if os.path.lexists(path / FILE) else None
    if file and not file.is_file():
        saw = "a link to nothing, a folder, a pipe or a device"
        raise LayoutError(file, saw, "a file, or none", "Correct the link, or take it away.")
    config = read_model_config(_inside(file, root) if file else None, defaults)
    if file:
        check_kind(config, file, name)
    versions = {_version(folder.name): folder for folder in _version_folders(path)}
    chosen = versions_to_serve(config, list(versions))
    if not chosen:
        raise _no_version(path, config, sorted(filter(None, versions)))
    files = {version: _file(versions[version], config, root) for version in chosen}
    return {v: Artifact(name, v, found, config, fingerprint(found, file)) for v, found in files.items()}


def _no_version(path: Path, config: ModelConfig, present: Sequence[int]) -> LayoutError:
    """Why none is served; a file where a folder should be is the likeliest slip."""
    asked = versions_by_name(config) or present or [1]
    wanted = f"{path.name}/{asked[0]}/{config.artifact}"
    if (path / str(asked[0])).is_file():
        return LayoutError(path / str(asked[0]), "a file", f"a folder: {wanted}", "Move the file into one.")
    if beside := [child.name for child in sorted(path.iterdir()) if child.suffix in _SUFFIXES]:
        return LayoutError(path / beside[0], "beside the versions", wanted, "Move it there.")
    if not present:
        return LayoutError(path, "no version to serve", wanted, "Add one.")
    saw = f"versions {', '.join(map(str, present))}, none of which the version_policy names"
    return LayoutError(path, saw, wanted, "Add it, or correct config.pbtxt.")


def _file(folder: Path, config: ModelConfig, root: Path) -> Path:
    named = folder / config.artifact
    others = [path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES]
    if not named.exists() and config.artifact == DEFAULT_ARTIFACT and len(others) == 1:
        named = others[0]
    if not named.is_file():
        raise LayoutError(
            folder, f"no {config.artifact}", "the artifact", "Put it there, or name it in the config."
        )
    return _inside(named, root)


def _inside(path: Path, root: Path) -> Path:
    """`path` without symbolic links; they may lead anywhere within the repository, and nowhere else.

    But for the blobs of a hub's cache, of which a snapshot consists: they are beside it or one folder up, and bear
    no suffix, so that the link's own name stays.
    """
    resolved = path.resolve()
    blobs = resolved.parent.name == "blobs" and resolved.parent.parent in (root.parent, root.parent.parent)
    if not (resolved.is_relative_to(root) or blobs):
        raise LayoutError(path, "a link that leaves the repository", f"a file below {root}", "Copy the file there.")
    return resolved if resolved.suffix in _SUFFIXES or path.suffix not in _SUFFIXES else path.absolute()
