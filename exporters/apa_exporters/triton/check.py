"""Look at every file of a repository before a server does: one missing file makes Triton wait for ever."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import model_config_pb2 as pb

from apa_deploy.errors import GateError
from apa_deploy.files import OutputError, refuse_existing, sha256
from apa_deploy.serving.model_config import ModelConfig, labels, read_model_config

from .config import BACKENDS, FILE, WARM_UP

SUMS = "SHA256SUMS"
_SCRIPT = "model.py"


class RepositoryError(GateError):
    """A file of a repository is missing, or does not fit. `path`."""

    def __init__(self, path: Path, saw: str, wanted: str) -> None:
        super().__init__(f"{path}: {saw}", wanted, "Nothing was written; this is a fault of apa-deploy: report it.")
        self.path = path


def check_repository(root: Path) -> None:
    """Hold each model's configuration against the files.

    Raises:
        RepositoryError: one is missing, of the wrong size, or names a model that is not there.
        InputError: a configuration cannot be read.
    """
    configs = {folder.name: _config(folder) for folder in sorted(root.iterdir()) if folder.is_dir()}
    for name, config in configs.items():
        folder = root / name
        if config.name != name:
            raise RepositoryError(folder / FILE, f"the name {config.name}", name)
        _check_files(folder, config)
        _check_warm_up(folder, config)
        _check_steps(folder, config, configs)


def check_replaceable(out: Path, *, force: bool) -> None:
    """Refuse to replace what is no repository of ours: `--force` on a folder of other models would end them.

    Raises:
        OutputError: `out` exists without `force`, or holds a file that its SHA256SUMS does not list.
    """
    refuse_existing(out, force=force)
    if not out.exists():
        return
    sums = out / SUMS
    listed = {line[66:] for line in sums.read_text(encoding="utf-8").splitlines()} if sums.is_file() else set()
    others = [path for path in files_of(out) if str(path.relative_to(out)) not in listed]
    if not out.is_dir() or others or not listed:
        saw = f"holds {others[0].name}, which is not ours" if others else "is no repository of apa-export"
        raise OutputError(out, saw, "Choose another folder with -o.")


def write_sums(root: Path) -> None:
    """List every file with its hash, as sha256sum reads it."""
    lines = [f"{sha256(path)}  {path.relative_to(root)}\n" for path in files_of(root)]
    (root / SUMS).write_text("".join(lines), encoding="utf-8")


def files_of(root: Path) -> list[Path]:
    """Every file below `root` but the list of sums."""
    return [path for path in sorted(root.rglob("*")) if path.is_file() and path != root / SUMS]


def _config(folder: Path) -> Any:
    config = read_model_config(folder / FILE, ModelConfig())
    labels(config, folder)  # raises where a label file is missing
    return config.message


def _check_files(folder: Path, config: Any) -> None:
    wanted = [folder / library for library in config.model_operations.op_library_filename]
    if config.platform == "ensemble":
        wanted.append(folder / "1")
    elif config.backend == "python":
        wanted += [folder / "1" / _SCRIPT]
        wanted += [
            folder / "1" / config.parameters[k].string_value for k in ("artifact",) if k in config.parameters
        ]
    else:
        wanted.append(folder / "1" / BACKENDS[config.backend].artifact)
    for path in wanted:
        if not path.exists():
            raise RepositoryError(path, "is not there", "a file")


def _check_warm_up(folder: Path, config: Any) -> None:
    for warm_up in config.model_warmup:
        for given in warm_up.inputs.values():
            path = folder / WARM_UP / given.input_data_file
            size = path.stat().st_size if path.is_file() else 0
            bytes_ = int(np.prod(given.dims)) * _ITEM[given.data_type]
            if size != bytes_:
                raise RepositoryError(path, f"{size} bytes", f"{bytes_}")


def _check_steps(folder: Path, config: Any, configs: dict[str, Any]) -> None:
    known: set[str] = {tensor.name for tensor in config.input}
    for step in config.ensemble_scheduling.step:
        model = configs.get(step.model_name)
        if model is None or not _fits(step, model, known):
            raise RepositoryError(
                folder / FILE, f"a step {step.model_name} that does not fit", "the models beside it"
            )
        known |= set(step.output_map.values())


def _fits(step: Any, model: Any, known: Iterable[str]) -> bool:
    inputs, outputs = ({tensor.name for tensor in side} for side in (model.input, model.output))
    return (
        set(step.input_map) == inputs
        and set(step.output_map) <= outputs
        and set(step.input_map.values()) <= set(known)
    )


_ITEM = {
    pb.TYPE_BOOL: 1,
    pb.TYPE_UINT8: 1,
    pb.TYPE_INT8: 1,
    pb.TYPE_FP16: 2,
    pb.TYPE_UINT16: 2,
    pb.TYPE_INT16: 2,
    pb.TYPE_FP32: 4,
    pb.TYPE_UINT32: 4,
    pb.TYPE_INT32: 4,
    pb.TYPE_FP64: 8,
    pb.TYPE_UINT64: 8,
    pb.TYPE_INT64: 8,
}
