"""`--format triton`: any artifact -> a Triton model repository that loads the first time.

artifact -> checked and run -> NAME/config.pbtxt, NAME/1/model.*, warm-up, scripts -> every file checked -> in place
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apa_deploy.files import replace_file
from apa_deploy.progress import notice, step
from apa_deploy.require import require
from apa_deploy.serving.layout import check_name

from .options import TritonOptions


@dataclass(frozen=True)
class Repository:
    """What was made: the model to ask for, and how its network runs. `library`: wired in with it, or ""."""

    path: str
    model: str
    backend: str
    max_batch: int
    preferred_batches: list[int]
    library: str
    files: int
    notices: list[str]

    def document(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def check_triton_packages(ensemble: bool) -> None:
    """Raise `MissingError` where a package that the repository's making needs is absent."""
    require("tritonclient.grpc")
    if ensemble:
        require("PIL.Image")


def model_name(source: Path, options: TritonOptions) -> str:
    """What the server is asked for; raises `InputError` where it is no name for a model."""
    name = options.name or source.name.split(".")[0]
    check_name(source, name, "Choose another." if options.name else "Give the model another: --name MODEL.")
    return name


def export_triton(artifact: Path, out: Path, options: TritonOptions) -> Repository:
    """Write the repository `out`, a folder, unless a check fails: then nothing is written.

    Raises:
        MissingError: tritonclient, or pillow for an ensemble, is not installed.
        InputError: options that do not fit, an artifact that cannot be served, or `out` holds other files.
        IntegrityError: the artifact is not the one its passport speaks of.
        RepositoryError: a file of the repository does not fit.
    """
    check_triton_packages(options.ensemble)
    from .artifact import describe_artifact
    from .check import check_replaceable, check_repository, files_of, write_sums
    from .files import write_models

    name = model_name(artifact, options)
    check_replaceable(out, force=options.force)
    with step("Checking the artifact"):
        found = describe_artifact(artifact, options.batches, options.size)
    for text in found.notices:
        notice(text)
    with replace_file(out, force=options.force) as root:
        root.mkdir()
        config, library = write_models(root, name, found, options)
        check_repository(root)
        write_sums(root)
        count = len(files_of(root))
    return Repository(
        path=str(out),
        model=name,
        backend=config.platform or config.backend,
        max_batch=config.max_batch_size,
        preferred_batches=list(config.dynamic_batching.preferred_batch_size),
        library=library,
        files=count,
        notices=list(found.notices),
    )
