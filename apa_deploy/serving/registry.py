"""The models in service: loading, unloading, and replacing those whose files were replaced.

A new version is loaded and warmed up beside the old one; then one assignment puts it in its place, and the old one
answers what still waits in its queue. A version that fails to load leaves the old one in service.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from ..errors import ApaError, InputError
from .errors import NotFoundError, RequestError, UnavailableError
from .layout import Artifact, Entry, Fingerprint, scan
from .log import JsonLog
from .model import Loaded, Model, load_model
from .model_config import ModelConfig
from .options import ServeOptions
from .statistics import Statistics

READY, LOADING, UNAVAILABLE = "READY", "LOADING", "UNAVAILABLE"


@dataclass
class ModelState:
    """Where a version stands; `failed`: the files that did not load, so that they are not tried for ever."""

    state: str
    reason: str = ""
    failed: Fingerprint | None = None


class Registry:
    """Models by name and version; belongs to the event loop, loads on threads."""

    def __init__(self, options: ServeOptions, log: JsonLog) -> None:
        self._options, self._log = options, log
        self._models: dict[str, dict[int, Model]] = {}
        self._states: dict[str, dict[int, ModelState]] = defaultdict(dict)
        self._statistics: dict[tuple[str, int], Statistics] = defaultdict(Statistics)
        self._unloaded: set[str] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._leaving: set[Model] = set()
        self._one_at_a_time = asyncio.Lock()
        self._said = ""
        self._retired = False

    def get(self, name: str, version: str = "") -> Model:
        """The model to answer a request; `version` "": the latest.

        Raises:
            NotFoundError: there is no such model or version.
            UnavailableError: there is, but it is not loaded.
        """
        versions = self._models.get(name)
        if not versions:
            raise self._describe_absence(name)
        if not version:
            return versions[max(versions)]
        found = (
            versions.get(int(version)) if version.isascii() and version.isdigit() and len(version) < 19 else None
        )
        if found is None:
            raise NotFoundError(f"version {version[:20]!r} of {name}", ", ".join(map(str, versions)), "Name one.")
        return found

    def list_loaded(self) -> list[Model]:
        """Every version in service, by name and version."""
        return [self._models[name][v] for name in sorted(self._models) for v in sorted(self._models[name])]

    def versions(self, name: str) -> list[int]:
        """The versions of a model in service."""
        return sorted(self._models.get(name, ()))

    def index(self) -> list[dict[str, str]]:
        """Every version known, with its state, as the repository extension shows it."""
        rows = [(name, v, state) for name, states in sorted(self._states.items()) for v, state in states.items()]
        return [_row(name, version, state) for name, version, state in rows]

    async def load_all(self) -> list[ApaError]:
        """Load what the repository holds and return the failures.

        Raises:
            LayoutError: it holds no model.
        """
        async with self._one_at_a_time:
            entries = await self._scan()
            return [error for entry in entries.values() for error in await self._bring_up(entry)]

    async def load(self, name: str) -> None:
        """Load or reload one model, and lift an earlier unload.

        Raises:
            NotFoundError: the repository does not hold it.
            RequestError: it does not load.
        """
        async with self._one_at_a_time:
            entry = (await self._scan()).get(name)
            if entry is None:
                raise NotFoundError(f"model {name[:80]!r}", "one of the repository", "See /v2/repository/index.")
            self._unloaded.discard(name)
            for state in self._states[name].values():
                state.failed = None
            if errors := await self._bring_up(entry):
                raise RequestError(errors[0].saw, errors[0].wanted, errors[0].do)

    async def unload(self, name: str) -> None:
        """Take one model out of service until it is loaded again.

        Raises:
            NotFoundError: there is no such model.
        """
        async with self._one_at_a_time:
            if name not in self._states:
                raise NotFoundError(f"model {name[:80]!r}", "a known one", "See /v2/repository/index.")
            self._unloaded.add(name)
            for version in list(self._models.get(name, ())):
                self._withdraw(name, version, "unloaded")

    async def refresh(self) -> None:
        """Look at the files once: load what is new or replaced, withdraw what is gone."""
        async with self._one_at_a_time:
            try:
                entries = await self._scan()
            except (InputError, OSError) as error:
                self._say_once(str(error))
                return
            self._said = ""
            for name in set(self._models) - set(entries):
                for version in list(self._models[name]):
                    self._withdraw(name, version, "its files are gone")
            for name, entry in entries.items():
                if name not in self._unloaded:
                    await self._bring_up(entry)

    async def watch(self) -> None:
        """Refresh for ever, at the interval of the options."""
        while True:
            await asyncio.sleep(self._options.reload_interval)
            await self.refresh()

    async def retire_all(self) -> None:
        """Let every queue run empty, then free the models; nothing is loaded from here on."""
        self._retired = True
        for name in list(self._models):
            for version in list(self._models[name]):
                self._withdraw(name, version, "the server stops")
        await asyncio.gather(*self._retiring)

    def end_processes(self) -> None:
        """End what models run in processes of their own; without waiting, for the server ends."""
        for model in [*self.list_loaded(), *self._leaving]:
            model.end_processes()

    async def _scan(self) -> dict[str, Entry]:
        return await asyncio.to_thread(scan, self._options.source, self._defaults())

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._log.warning("repository", error=text)
        self._said = text

    def _defaults(self) -> ModelConfig:
        o = self._options
        return ModelConfig(o.max_batch, o.batch_delay, o.instances, o.queue, o.request_timeout)

    async def _bring_up(self, entry: Entry) -> list[ApaError]:
        """Bring one model to what its files are; the failures, of which each is logged."""
        if entry.error is not None:
            if self._states[entry.name].get(0, ModelState("")).reason != str(entry.error):
                self._log.error("load", model=entry.name, error=str(entry.error))
            self._states[entry.name][0] = ModelState(UNAVAILABLE, str(entry.error))
            return [entry.error]
        self._states[entry.name].pop(0, None)
        errors = [error for artifact in entry.artifacts.values() if (error := await self._bring(artifact))]
        serving = set(self._models.get(entry.name, ()))
        if serving.issuperset(entry.artifacts):  # until then, the old versions stay
            for version in serving - set(entry.artifacts):
                self._withdraw(entry.name, version, "other versions are to be served")
        return errors

    async def _bring(self, artifact: Artifact) -> ApaError | None:
        current = self._models.get(artifact.model, {}).get(artifact.version)
        state = self._states[artifact.model].setdefault(artifact.version, ModelState(LOADING))
        if (
            current and current.artifact.fingerprint == artifact.fingerprint
        ) or state.failed == artifact.fingerprint:
            return None
        try:
            loaded = await asyncio.to_thread(
                load_model,
                artifact,
                threads=self._options.threads,
                providers=self._options.providers,
                trust_engine=self._options.trust_engine,
                isolate=self._options.isolate,
                flush_subnormals=self._options.flush_subnormals,
            )
        except Exception as error:  # noqa: BLE001  whatever a file does to a runtime must not end the server
            self._record_failure(artifact, state, failure := _failure(error))
            return failure
        if self._retired:
            await asyncio.to_thread(loaded.session.close)
            return UnavailableError("a server that stops", "one that serves", "Start it again.")
        try:
            self._put(loaded, Model(loaded, self._statistics[artifact.model, artifact.version]))
        except RuntimeError as error:  # no thread is left for its instances
            await asyncio.to_thread(loaded.session.close)
            self._record_failure(artifact, state, failure := _failure(error))
            return failure
        return None

    def _record_failure(self, artifact: Artifact, state: ModelState, error: ApaError) -> None:
        state.reason, state.failed = str(error), artifact.fingerprint
        if artifact.version not in self._models.get(artifact.model, {}):
            state.state = UNAVAILABLE
        self._log.error("load", model=artifact.model, version=artifact.version, error=str(error))

    def _put(self, loaded: Loaded, model: Model) -> None:
        name, version = model.name, model.version
        versions = self._models.setdefault(name, {})
        old = versions.get(version)
        versions[version] = model
        self._states[name][version] = ModelState(READY)
        self._log.info(
            "loaded", model=name, version=version, file=loaded.artifact.path.name, reload=old is not None
        )
        for text in loaded.notices:
            self._log.warning("loaded", model=name, version=version, notice=text)
        if old:
            self._retire(old)

    def _withdraw(self, name: str, version: int, reason: str) -> None:
        model = self._models[name].pop(version)
        if not self._models[name]:
            del self._models[name]
        self._states[name][version] = ModelState(UNAVAILABLE, reason)
        self._log.info("unloaded", model=name, version=version, reason=reason)
        self._retire(model)

    def _retire(self, model: Model) -> None:
        self._leaving.add(model)
        task = asyncio.create_task(model.retire())
        self._retiring.add(task)

        def forget(done: asyncio.Task[None]) -> None:
            self._retiring.discard(done)
            self._leaving.discard(model)

        task.add_done_callback(forget)

    def _describe_absence(self, name: str) -> NotFoundError | UnavailableError:
        if name in self._states:
            return UnavailableError(f"model {name} is not loaded", "a loaded one", "Load it, or see its reason.")
        return NotFoundError(f"model {name[:80]!r}", "a known one", "See /v2/repository/index.")


def _failure(error: Exception) -> ApaError:
    if isinstance(error, ApaError):
        return error
    return InputError(f"{type(error).__name__}: {error}", "a model that loads", "Export the model again.")


def _row(name: str, version: int, state: ModelState) -> dict[str, Any]:
    row = {"name": name, "version": str(version) if version else "", "state": state.state}
    return row | ({"reason": state.reason} if state.reason else {})
