"""The passport: what was made from what, by which versions, and how it was judged. Schema version 1.

It lies beside the artifact as OUT.passport.json. Unsigned: it proves that files belong together and are
intact, not who made them.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .. import __version__
from ..errors import InputError
from ..files import PASSPORT_SUFFIX, SourceError, read_bytes, sha256
from .benchmark import LatencyRecord
from .parity import ParityReport
from .quantisation import QuantisationRecord

if TYPE_CHECKING:
    from ..graph.sites import ActivationSite

SCHEMA = 1
_SEAL = re.compile(rb',\n  "self_sha256": "([0-9a-f]{64})"\n}\n\Z')
_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "polygraphy", "numpy")


class FileRecord(BaseModel):
    """A file by name (never by folder), content hash and size in bytes."""

    name: str
    sha256: str
    bytes: int


class ActivationRecord(BaseModel):
    """A learned activation: module path, kind, floor, effective lambda and kappa, how it is decomposed."""

    model_config = ConfigDict(populate_by_name=True)

    path: str
    kind: str
    floor: str
    lambda_: list[float] = Field(alias="lambda")
    kappa: list[float]
    form: str


def record_activation(site: ActivationSite) -> ActivationRecord:
    """What passports and reports keep of an activation."""
    from ..graph.decompose import decomposition_of

    lambda_, kappa = list(site.parameters.lambda_), list(site.parameters.kappa)
    form = decomposition_of(site.parameters)
    return ActivationRecord(
        path=site.path, kind=site.kind, floor=site.floor, **{"lambda": lambda_}, kappa=kappa, form=form
    )


class EngineCandidate(BaseModel):
    """An engine that was built and tried. `max_rel`: by output; `types`: layers that write each number type.

    `precision`: of its graph; `refused`: why it could not be used; `latency_ms`: raw samples of the usual size,
    taken in turns with the other candidates, of all builds; `latency_by_size`: those of every size of the profile;
    `seconds`: of all builds.
    """

    activation: str
    precision: str = ""
    passed: bool
    refused: str
    max_rel: dict[str, float]
    bytes: int
    seconds: float
    launches: dict[str, int]
    types: dict[str, int]
    latency_ms: list[float]
    latency_by_size: dict[str, list[float]] = {}


class TensorRecord(BaseModel):
    """An input or output: `datatype` as the inference protocol names it, `shape` with -1 where it is open.

    `sizes`: the same, with the name of an open size where it has one.
    """

    name: str
    datatype: str
    shape: list[int]
    sizes: list[int | str] = []


class EngineBuild(BaseModel):
    """How an engine was built. `model`: the ONNX file it was built from, judged by `Passport.parity`.

    `capabilities`: empty for a portable engine; `batches`: least, usual, largest; `launches`: kernels by type;
    `executed`: whether it ran on the machine that built it; `note`: why not, or where. Of `--format trt`:
    `activation` and the `reason` for it, the `candidates` it was chosen from, and the `plugin` library it needs;
    `in_precision`: whether it computes in the precision asked for, None: unknown; `ptx`: of kernels inside the
    plan, the version, and the driver that compiles it.
    """

    builder: str
    model: FileRecord
    capabilities: list[str]
    batches: tuple[int, int, int]
    seconds: float
    peak_memory_bytes: int
    launches: dict[str, int]
    executed: bool
    note: str
    activation: str | None = None
    reason: str | None = None
    candidates: list[EngineCandidate] = []
    types: dict[str, int] = {}
    in_precision: bool | None = None
    gpu: dict[str, str | int] | None = None
    plugin: FileRecord | None = None
    ptx: dict[str, str] | None = None


class Passport(BaseModel):
    """Everything that is known about an artifact."""

    schema_version: Literal[1] = 1
    tool: str = f"apa-deploy {__version__}"
    created: str
    format: str
    options: dict[str, Any]
    architecture: str
    weights: str
    input_shape: tuple[int, ...]
    output_names: list[str]
    input_tensors: list[TensorRecord] = []
    output_tensors: list[TensorRecord] = []
    inputs: list[FileRecord]
    outputs: list[FileRecord]
    versions: dict[str, str]
    activations: list[ActivationRecord]
    notices: list[str] = []
    parity: ParityReport | None = None
    build: EngineBuild | None = None
    latency: LatencyRecord | None = None
    quantisation: QuantisationRecord | None = None

    @property
    def is_judged(self) -> bool:
        """Whether the artifact was compared with anything."""
        return self.parity is not None and bool(self.parity.outputs or self.parity.detections)

    @property
    def needs_plugin(self) -> bool:
        """Whether the engine that was kept wants our plugin library: not one that carries the code itself."""
        return self.build is not None and self.build.plugin is not None and not self.options.get("embed_plugin")

    @property
    def has_host_code(self) -> bool:
        """Whether the engine carries code for the processor, which a runtime runs only where it is told to:
        it is version-compatible, as any with a plugin inside. Later versions of TensorRT run it too."""
        embedded = self.build is not None and self.build.plugin is not None and self.options.get("embed_plugin")
        return bool(embedded or self.options.get("version_compatible"))


class PassportError(InputError):
    """A passport cannot be read. `path`."""

    def __init__(self, path: Path, saw: str) -> None:
        super().__init__(f"{path}: {saw}", f"a passport of schema version {SCHEMA}", "Export the model again.")
        self.path = path


def passport_path(artifact: Path) -> Path:
    """Where the passport of `artifact` lies."""
    return artifact.with_name(artifact.name + PASSPORT_SUFFIX)


def file_record(path: Path) -> FileRecord:
    """The record of a file as it is now."""
    return FileRecord(name=path.name, sha256=sha256(path), bytes=path.stat().st_size)


def now() -> str:
    """The time of now in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Versions of Python, the platform and the packages that shape an artifact."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def dump(passport: Passport) -> str:
    """The passport as JSON text, its last entry the sha256 of all that stands before it."""
    body = passport.model_dump_json(indent=2, by_alias=True).removesuffix("\n}")
    return f'{body},\n  "self_sha256": "{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n'


def is_intact(text: bytes) -> bool:
    """Whether not a byte of a passport's file has changed by accident. Whoever means to can make it fit again."""
    seal = _SEAL.search(text)
    return seal is not None and hashlib.sha256(text[: seal.start()]).hexdigest() == seal[1].decode()


def read_passport(path: Path) -> Passport:
    """The passport at `path`.

    Raises:
        PassportError: it is absent, damaged or of another schema version.
    """
    try:
        return Passport.model_validate_json(read_bytes(path).decode())
    except SourceError as error:
        raise PassportError(path, error.reason) from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise PassportError(path, str(error).splitlines()[0]) from error
