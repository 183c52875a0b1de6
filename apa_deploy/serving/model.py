"""One version of a model in memory: checked, loaded, warmed up, with its queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from ..errors import InputError
from ..graph.values import external_files
from ..records.passport import Passport
from ..runtimes.providers import Wanted
from ..runtimes.session import ENGINE_SUFFIXES, Session
from .batcher import Batcher
from .integrity import checked_passport, warnings
from .layout import Artifact, LayoutError, fingerprint
from .model_config import FILE, check_against, labels
from .signature import Signature, signature_from_engine, signature_from_onnx
from .statistics import Statistics
from .warmup import rows_are_independent, warm_up

# Nanoseconds: to hand an execution to a thread and to come back takes about as long.
_QUICK = 200_000


@dataclass(frozen=True)
class Loaded:
    """What loading yields, before it is given a queue. `notices`: what the operator should know."""

    artifact: Artifact
    session: Session
    signature: Signature
    labels: dict[str, list[str]]
    notices: list[str]


def load_model(
    artifact: Artifact, *, threads: int, providers: Sequence[Wanted] | None, trust_engine: bool = False
) -> Loaded:
    """Load one version. Blocks; runs on a thread.

    Raises:
        ApaError: a hash differs from the passport's, an engine has none, the file does not load, or the config does
            not fit it.
    """
    folder = artifact.path.parent.parent
    names = labels(artifact.config, folder)
    if artifact.path.suffix in ENGINE_SUFFIXES:
        session, signature, passport = _engine(artifact, trust_engine)
    else:
        session, signature, passport = _onnx(artifact, threads, providers)
    try:
        signature, notices = _warmed(session, signature, passport)
        _check_unchanged(artifact)
    except BaseException:
        session.close()
        raise
    return Loaded(artifact, session, signature, names, warnings(passport) + notices)


def _engine(artifact: Artifact, trust: bool) -> tuple[Session, Signature, Passport | None]:
    passport = None if trust else checked_passport(artifact.path, [])
    session = Session(artifact.path, trust_engine=trust, contexts=artifact.config.instances)
    try:
        signature = signature_from_engine(session.tensors, artifact.config.max_batch)
        check_against(artifact.config, signature, artifact.path.parent.parent / FILE)
    except BaseException:
        session.close()
        raise
    return session, signature, passport


def _onnx(
    artifact: Artifact, threads: int, providers: Sequence[Wanted] | None
) -> tuple[Session, Signature, Passport | None]:
    proto = _proto(artifact)
    passport = checked_passport(artifact.path, external_files(proto))
    signature = signature_from_onnx(proto, artifact.config.max_batch)
    check_against(artifact.config, signature, artifact.path.parent.parent / FILE)
    del proto  # a copy of the weights, which the session holds as well
    return Session(artifact.path, threads=threads, providers=providers), signature, passport


class Model:
    """A loaded version and its queue; belongs to the event loop."""

    def __init__(self, loaded: Loaded, statistics: Statistics) -> None:
        self.artifact, self.signature, self.labels = loaded.artifact, loaded.signature, loaded.labels
        self.statistics = statistics
        self._session = loaded.session
        config = loaded.artifact.config
        self.batcher = Batcher(
            loaded.session.run,
            max_batch=loaded.signature.max_batch,
            delay=config.delay,
            instances=config.instances,
            limit=config.queue,
            statistics=statistics,
            quick=0 if loaded.artifact.path.suffix in ENGINE_SUFFIXES else _QUICK,  # a GPU may hang
        )

    @property
    def name(self) -> str:
        return self.artifact.model

    @property
    def version(self) -> int:
        return self.artifact.version

    async def retire(self) -> None:
        """Answer what waits, then free the runtime."""
        await self.batcher.drained()
        self.batcher.close()
        self._session.close()


def _proto(artifact: Artifact) -> onnx.ModelProto:
    try:
        return onnx.load(artifact.path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError is no public name
        raise LayoutError(artifact.path, f"not ONNX ({error})", "an exported model", "Export it again.") from error


def _warmed(session: Session, signature: Signature, passport: Passport | None) -> tuple[Signature, list[str]]:
    """Run once at each end of the batch sizes; a model whose rows influence each other is not batched."""
    shape = _sample_shape(passport) if passport else ()
    try:
        if signature.max_batch > 1 and not rows_are_independent(session.run, signature, shape):
            return signature.unbatched(), ["rows influence each other: requests are not batched"]
        warm_up(session.run, signature, shape)
    except InputError as error:
        return signature, [f"no warm-up: {error.saw}"]
    return signature, []


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
