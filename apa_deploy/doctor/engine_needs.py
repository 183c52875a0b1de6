"""An engine: the runtime, GPU, driver and plugin that it needs, from its header and its passport."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..records.passport import Passport
from ..require import PACKAGES
from ..runtimes.engine_header import AND_LATER, RTX, EngineHeader, metadata_before, read_header
from ..serving.triton_releases import advise_release
from . import components
from .facts import MachineFacts
from .finding import Finding, FindingState, check_need
from .kind import UnknownFileError
from .passport_needs import own_passport


def engine_findings(path: Path, start: bytes, facts: MachineFacts) -> list[Finding]:
    """What the engine at `path`, which begins with `start`, needs.

    Raises:
        UnknownFileError: it is cut, or its header is not a known one.
    """
    header = read_header(start)
    if header is None:
        saw = f"an engine of tag {start[:4]!r}, {path.stat().st_size} bytes"
        raise UnknownFileError(path, saw, "Copy or build it again; known are the tags ftrt and vtrt.")
    if header.bytes is not None and header.bytes != path.stat().st_size:
        saw = f"{path.stat().st_size} bytes, its header says {header.bytes}"
        raise UnknownFileError(path, saw, "It is damaged: copy or build it again.")
    passport, vouched = own_passport(path)
    return [*_runtime(header, passport, facts), *_gpu(header, passport, facts), *_plugin(passport, facts), vouched]


def check_prefixed_engine(path: Path, start: bytes, facts: MachineFacts) -> list[Finding]:
    """What an engine behind metadata needs: first of all, to be freed of it."""
    found = metadata_before(start)
    assert found is not None  # it is what makes the file of this kind
    skip, metadata = found
    header = read_header(start[skip:])
    who = metadata.get("author") or metadata.get("description") or "another exporter"
    bare = path.with_name(f"{path.stem}.plan.engine").name
    tag = Finding(
        "engine",
        "an engine from the first byte on, as TensorRT and trtexec read it",
        f"{skip} bytes of JSON before it, as Ultralytics writes ({who})",
        FindingState.MISSING,
        f"Run: tail -c +{skip + 1} {path.name} > {bare}",
    )
    if header is None:
        return [tag]
    return [tag, *_runtime(header, None, facts), *_gpu(header, None, facts), *_plugin(None, facts)]


def _option_of(passport: Passport | None, option: str) -> Any:
    """What the export was told."""
    return passport.options.get(option) if passport else None


def _runtime(header: EngineHeader, passport: Passport | None, facts: MachineFacts) -> list[Finding]:
    rtx = header.product == RTX
    here = components.rtx_version(facts) if rtx else components.tensorrt_version(facts)
    add = PACKAGES["tensorrt_rtx" if rtx else "tensorrt"].add
    compatible = passport is not None and passport.has_host_code
    wanted = f"{header.product} {header.version_text}" + (" or later" if compatible else "")
    good = here is not None and serves(components.numbers(here), header.version, compatible)
    image = "" if rtx or not header.version else f" Triton: {advise_release(header.version_text)}."
    do = f"Run: {add}, with that version; or build the engine again with the version that is here.{image}"
    return [check_need("runtime", wanted, here or "not installed", good, do if here else f"Run: {add}")]


def serves(runtime: tuple[int, ...], engine: tuple[int, ...] | None, compatible: bool) -> bool:
    """Whether a runtime of this version takes an engine of that one: the same version but for the build number;
    later ones as well, where the engine was built version-compatible."""
    if engine is None:
        return False
    return runtime[:3] == engine[:3] or (compatible and runtime[:3] > engine[:3])


def _gpu(header: EngineHeader, passport: Passport | None, facts: MachineFacts) -> list[Finding]:
    topic, built_for = "compute capability", header.capabilities or _capabilities(passport)
    found = [components.gpu(facts), *_driver(header, facts)]
    if not built_for:
        return [*found, Finding(topic, "of the GPU that it was built on", _UNTOLD, FindingState.NOTE)]
    if not facts.gpus:
        return [*found, Finding(topic, " or ".join(built_for), "no GPU to compare", FindingState.NOTE)]
    here = [gpu.capability for gpu in facts.gpus]
    good = any(fits(one, built_for) for one in here)
    do = "Build the engine again on this GPU, or choose a fitting one with CUDA_VISIBLE_DEVICES."
    return [*found, check_need(topic, " or ".join(built_for), ", ".join(here), good, do)]


def _capabilities(passport: Passport | None) -> tuple[str, ...]:
    """Of a TensorRT engine, by its passport; TensorRT's levels of compatibility put into words."""
    if passport is None or passport.build is None:
        return ()
    named = passport.build.capabilities
    if "AMPERE_PLUS" in named:
        return (AND_LATER,)
    built_on = str((passport.build.gpu or {}).get("capability", ""))
    return tuple(dict.fromkeys(one for one in [*named, built_on] if one[:1].isdigit()))


_UNTOLD = "neither the header nor a passport names it"


def fits(capability: str, built_for: Sequence[str]) -> bool:
    """Whether a GPU of this capability runs an engine that was built for those."""
    return capability in built_for or (AND_LATER in built_for and components.numbers(capability) >= (8, 0))


def _driver(header: EngineHeader, facts: MachineFacts) -> list[Finding]:
    rtx = "tensorrt-rtx-cu13" in facts.packages
    major = (13 if rtx else None) if header.product == RTX else components.cuda_major_of_tensorrt(facts)
    return [components.driver(facts, major, header.product)] if major and facts.gpus else []


def _plugin(passport: Passport | None, facts: MachineFacts) -> list[Finding]:
    """Only a passport tells for certain; without one a plugin is possible, so its absence is a note."""
    if passport is None:
        missing = [f for f in components.plugin(facts) if f.state is FindingState.MISSING]
        return [Finding("plugin", "perhaps (no passport)", f.here, FindingState.NOTE, f.do) for f in missing]
    kept = passport.build.activation if passport.build else None
    if not str(kept or _option_of(passport, "activation")).startswith("plugin"):  # plugin-codes too
        return []
    if _option_of(passport, "embed_plugin"):
        return [Finding("plugin", "libapa_trt.so", "inside the engine")]
    return components.plugin(facts)
