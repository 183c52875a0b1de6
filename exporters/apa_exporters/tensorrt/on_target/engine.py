"""ONNX -> a serialized TensorRT engine, with Polygraphy's loaders; and back to one that runs."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import clear_frames
from typing import Any

from . import aot
from .monitor import Report, monitor
from .recipe import AOT, WITH_PLUGIN, Recipe
from .refusal import FAILED, MISSING, RefusalError

NAMESPACE, VERSION, CREATORS = "apa", "1", ("APA", "AGLU", "APACodes", "AGLUCodes")


@dataclass(frozen=True)
class Built:
    """A serialized engine, and how long it took to build, in seconds."""

    activation: str
    engine: bytes
    seconds: float


def build_engine(folder: Path, recipe: Recipe, activation: str, report: Report, timing_cache: Path) -> Built:
    """Build the recipe's model for `activation`; what other builds learned of kernels is in `timing_cache`.

    Raises:
        RefusalError: the plugin does not load or is not used, or TensorRT refuses the model.
    """
    from polygraphy.exception import PolygraphyException

    if activation == AOT:
        register_kernels(folder)
    library = folder / recipe.plugin if recipe.plugin and activation in WITH_PLUGIN else None
    start = time.perf_counter()
    with _registered(library, recipe.embed_plugin):
        try:
            model = folder / recipe.models[activation]
            engine = _serialize(model, activation, recipe, library, report, timing_cache)
        except PolygraphyException as error:
            raise _refused_by_tensorrt(error) from error
    return Built(activation, engine, time.perf_counter() - start)


def _refused_by_tensorrt(error: Exception) -> RefusalError:
    reason = str(error).splitlines()[0]
    return RefusalError(f"TensorRT: {reason}", "an engine", "See what it printed above.", FAILED)


@contextmanager
def _registered(library: Path | None, embedded: bool) -> Iterator[None]:
    """Our plugin, where a build needs it. `embedded`: not after it, failed or not: engines bring their own, and two
    of one name do not go together."""
    handle = load_plugin(library) if library else None
    try:
        yield
    except Exception as error:
        for one in (error, error.__cause__):
            clear_frames(one.__traceback__ if one else None)  # they hold the network, and it the library's plugins
        raise
    finally:
        if handle and embedded:
            gc.collect()
            _registry().deregister_library(handle)


def load_plugin(library: Path) -> Any:
    """Register our plugin library, unless its creators are there; a handle, or None where they were."""
    if not _creators_missing():
        return None
    handle = _registry().load_library(str(library))
    if handle and (missing := _creators_missing()):  # an older one
        _registry().deregister_library(handle)
        do = "Build it from plugin/src of this bundle: see README.md."
        raise RefusalError(f"{library.name} has no {', '.join(missing)}", "the plugin of this bundle", do, MISSING)
    if handle is None:
        do = "Is it for this platform? Build it from plugin/src (see README.md) and put it in its place."
        raise RefusalError(f"{library.name} does not load", "the TensorRT plugin", do, MISSING)
    return handle


def _creators_missing() -> list[str]:
    return [name for name in CREATORS if not _registry().get_creator(name, VERSION, NAMESPACE)]


def register_kernels(folder: Path) -> None:
    """Register the ahead-of-time plugins of a bundle, which only the build needs.

    Raises:
        RefusalError: this TensorRT has none.
    """
    import tensorrt as trt

    if tuple(map(int, trt.__version__.split(".")[:2])) < aot.LEAST_TENSORRT:
        do = "Install it, or use --activation plugin or decomposed."
        raise RefusalError(f"TensorRT {trt.__version__}", "10.9 or later, for --activation aot", do, MISSING)
    aot.register(folder)


def _registry() -> Any:
    import tensorrt as trt

    return trt.get_plugin_registry()


def _serialize(
    model: Path, activation: str, recipe: Recipe, library: Path | None, report: Report, timing_cache: Path
) -> bytes:
    import tensorrt as trt
    from polygraphy.backend.trt import EngineBytesFromNetwork, NetworkFromOnnxPath, PostprocessConfig

    flags = [trt.OnnxParserFlag.NATIVE_INSTANCENORM]  # the plugin for it would spoil compatible engines
    network = NetworkFromOnnxPath(str(model), flags=flags, strongly_typed=True)()
    if library or activation == AOT:
        _check_plugin_layers(network[1], model)
    embedded = bool(library) and recipe.embed_plugin
    config = _config(recipe, report, timing_cache, embedded)
    if embedded:
        config = PostprocessConfig(config, lambda _builder, _network, made: _embed(made, str(library)))
    return bytes(EngineBytesFromNetwork(network, config=config, save_timing_cache=str(timing_cache))())


def _config(recipe: Recipe, report: Report, timing_cache: Path, embedded: bool) -> Any:
    """`embedded`: the plugin's library is to be part of the engine, which TensorRT does of such alone that are
    version-compatible (NvInfer.h, IBuilderConfig::setPluginsToSerialize)."""
    import tensorrt as trt
    from polygraphy.backend.trt import CreateConfig, Profile

    profile = Profile()
    for name, (least, usual, largest) in recipe.shapes.items():
        profile.add(name, tuple(least), tuple(usual), tuple(largest))
    level = recipe.hardware_compatible
    return CreateConfig(
        profiles=[profile],
        profiling_verbosity=trt.ProfilingVerbosity.DETAILED,  # the inspector then names every type
        load_timing_cache=str(timing_cache) if timing_cache.exists() else None,
        memory_pool_limits={trt.MemoryPoolType.WORKSPACE: recipe.workspace} if recipe.workspace else None,
        builder_optimization_level=recipe.optimization_level,
        hardware_compatibility_level=getattr(trt.HardwareCompatibilityLevel, level) if level else None,
        version_compatible=recipe.version_compatible or embedded,
        strip_plan=recipe.strip_weights,
        progress_monitor=monitor(report),
    )


def _embed(config: Any, library: str) -> None:
    config.plugins_to_serialize = [library]


def _check_plugin_layers(network: Any, model: Path) -> None:
    """A parser that does not find the plugin takes the function body, and says nothing.

    It makes plugin layers of other nodes too, such as ScatterElements, and names layers after nodes.
    """
    import onnx
    import tensorrt as trt

    nodes = list(_nodes_of(onnx.load(str(model), load_external_data=False).graph))
    ours = [node.name for node in nodes if node.domain == "com.apa"]
    others = {node.name for node in nodes if node.domain != "com.apa"}.difference(ours, [""])
    layers = (network.get_layer(i) for i in range(network.num_layers))
    found = sum(layer.type == trt.LayerType.PLUGIN_V3 and layer.name not in others for layer in layers)
    wanted = len(ours)
    if found < wanted:
        saw = f"the parser made {found or 'no'} plugin layer{'s' if found > 1 else ''} of {wanted} com.apa nodes"
        raise RefusalError(saw, "each com.apa node as a plugin", "Use TensorRT 10.7 or later.", FAILED)


def _nodes_of(graph: Any) -> Iterator[Any]:
    """Every node, those of branches too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes_of(inner)


def deserialize(built_engine: Built, folder: Path, recipe: Recipe) -> Any:
    """The engine as `tensorrt.ICudaEngine`, with its weights back where they were left out.

    Raises:
        RefusalError: TensorRT does not load what it built, or takes no weights.
    """
    import tensorrt as trt
    from polygraphy.backend.trt import EngineFromBytes, get_trt_logger
    from polygraphy.exception import PolygraphyException

    try:
        engine = EngineFromBytes(built_engine.engine)()
    except PolygraphyException as error:
        raise _refused_by_tensorrt(error) from error
    if recipe.strip_weights:
        refitter = trt.Refitter(engine, get_trt_logger())
        model = str(folder / recipe.models[built_engine.activation])
        refitted = trt.OnnxParserRefitter(refitter, get_trt_logger()).refit_from_file(model)
        if not refitted or not refitter.refit_cuda_engine():
            raise RefusalError(
                "the weights do not go back into the engine", "a refitted engine", "See above.", FAILED
            )
    return engine
