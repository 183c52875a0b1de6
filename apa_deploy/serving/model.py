"""One version of a model in memory: checked, loaded, warmed up, with its queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import onnx

from ..errors import InputError
from ..files import open_regular
from ..graph.read import OnnxFileError, read_graph
from ..graph.values import external_files
from ..records.integrity import verify_passport, warnings
from ..records.passport import Passport
from ..runtimes.artifacts import ENGINE, artifact_kind
from ..runtimes.ort_tensorrt import profile_of
from ..runtimes.providers import Wanted
from ..runtimes.session import Session
from ..tensors.signature import Profile
from .batcher import Batcher
from .cost import is_bounded, is_quick
from .isolation import IsolatedSession
from .layout import Artifact, LayoutError, fingerprint
from .model_config import FILE, apply_config, find_ignored_fields, labels
from .signature import RequestSignature, signature_from_engine, signature_from_onnx
from .statistics import Statistics
from .warmup import rows_are_independent, warm_up

_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Loaded:
    """What loading yields, before it is given a queue.

    `on_loop`: executions are too short, whatever is sent, to be worth a thread. `limits`: of the errors of
    outputs, by the passport. `notices`: what the operator should know.
    """

    artifact: Artifact
    session: Session | IsolatedSession
    signature: RequestSignature
    labels: dict[str, list[str]]
    on_loop: bool
    limits: dict[str, float]
    notices: list[str]


def load_model(
    artifact: Artifact,
    *,
    threads: int,
    providers: Sequence[Wanted] | None,
    trust_engine: bool = False,
    isolate: bool = False,
    flush_subnormals: bool = False,
) -> Loaded:
    """Load one version. Blocks; runs on a thread.

    Raises:
        ApaError: a hash differs from the passport's, an engine has none, the file does not load, or the config does
            not fit it.
    """
    names = labels(artifact.config, artifact.path.parent.parent)
    is_engine, proto = artifact_kind(artifact.path) is ENGINE, None
    passport = signature = None
    if is_engine:
        passport = None if trust_engine else verify_passport(artifact.path, [])
    else:
        proto = _proto(artifact)
        passport = verify_passport(artifact.path, external_files(proto))
        signature = signature_from_onnx(proto, artifact.config.max_batch)
        signature = apply_config(artifact.config, signature, artifact.path.parent.parent / FILE, artifact.path)
    options: dict[str, Any] = (
        {"trust_engine": trust_engine}
        if is_engine
        else {
            "threads": threads,
            "providers": providers,
            "flush_subnormals": flush_subnormals,
            "profile": _profile(signature, passport),
        }
    )
    session = _open(artifact, options, isolate)
    try:
        if signature is None:
            signature = signature_from_engine(session.signature, artifact.config.max_batch)
            signature = apply_config(artifact.config, signature, artifact.path.parent.parent / FILE, artifact.path)
        signature, notices = _warm_up(session, signature, passport)
        on_loop = bool(proto and not isolate and is_bounded(proto, signature) and is_quick(session.run, signature))
        _check_unchanged(artifact)
    except BaseException:
        session.close()
        raise
    notices = [*warnings(passport), *find_ignored_fields(artifact.config, artifact.path), *notices]
    parity = passport.parity if passport else None
    limits = {check.name: check.limit for check in parity.outputs} if parity else {}
    return Loaded(artifact, session, signature, names, on_loop, limits, notices)


def _open(artifact: Artifact, options: dict[str, Any], isolate: bool) -> Session | IsolatedSession:
    instances = artifact.config.instances
    if isolate:
        return IsolatedSession(artifact.path, instances, options, partial(_check_unchanged, artifact))
    return Session(artifact.path, **options, contexts=instances)


class Model:
    """A loaded version and its queue; belongs to the event loop."""

    def __init__(self, loaded: Loaded, statistics: Statistics) -> None:
        self.artifact, self.signature, self.labels = loaded.artifact, loaded.signature, loaded.labels
        self.statistics, self.limits = statistics, loaded.limits
        self._session = loaded.session
        config = loaded.artifact.config
        self.batcher = Batcher(
            loaded.session.run,
            max_batch=loaded.signature.max_batch if config.combine else 0,
            delay=config.delay,
            instances=config.instances,
            limit=config.queue,
            statistics=statistics,
            timeout=config.timeout,
            on_loop=loaded.on_loop,
        )

    @property
    def name(self) -> str:
        return self.artifact.model

    @property
    def version(self) -> int:
        return self.artifact.version

    async def retire(self) -> None:
        """Answer what waits, then free the runtime."""
        await self.batcher.wait_until_empty()
        self.batcher.close()
        self._session.close()

    def end_processes(self) -> None:
        """End the processes that the model runs in, where it has any, whatever they are at."""
        if isinstance(self._session, IsolatedSession):
            self._session.kill()


def _proto(artifact: Artifact) -> onnx.ModelProto:
    with open_regular(artifact.path) as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise LayoutError(artifact.path, "a Git LFS pointer", "the file itself", "Fetch it with: git lfs pull")
    try:
        return read_graph(artifact.path)
    except OnnxFileError as error:
        raise LayoutError(artifact.path, error.reason, "an exported model", "Export it again.") from error


def _warm_up(
    session: Session | IsolatedSession, signature: RequestSignature, passport: Passport | None
) -> tuple[RequestSignature, list[str]]:
    """Run once at each end of the batch sizes; a model whose rows influence each other is not batched."""
    shape = _sample_shape(passport) if passport else ()
    try:
        if signature.max_batch > 1 and not rows_are_independent(session.run, signature, shape):
            return signature.without_batching(), ["rows influence each other: requests are not batched"]
        warm_up(session.run, signature, shape)
    except InputError as error:
        return signature, [f"no warm-up: {error.saw}"]
    return signature, []


def _profile(signature: RequestSignature | None, passport: Passport | None) -> Profile | None:
    """What TensorRT's provider builds for: every number of rows that the model may get."""
    if signature is None or not signature.max_batch:
        return None
    sample = _sample_shape(passport) if passport else ()
    return profile_of(signature.inputs, sample, (1, signature.max_batch, signature.max_batch))


def _sample_shape(passport: Passport) -> tuple[int, ...]:
    shape = tuple(passport.input_shape)
    pixels = passport.options.get("pixels") or {}
    return (*shape[1:], shape[0]) if pixels.get("layout") == "nhwc" else shape


def _check_unchanged(artifact: Artifact) -> None:
    """Raise if a file was replaced between the check of its hash and its use."""
    config = artifact.path.parent.parent / FILE
    has_config = artifact.config.message is not None
    if fingerprint(artifact.path, config if has_config else None) != artifact.fingerprint:
        raise LayoutError(artifact.path, "replaced while it was loaded", "a file at rest", "It is tried again.")
