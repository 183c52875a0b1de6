"""The `trtexec` command line that does what a recipe says, for people who build with NVIDIA's own program.

`--dynamicPlugins`, not `--staticPlugins`: that one only opens the library, and leaves it to register itself as it
is opened. Ours is registered by TensorRT's loader, which calls `getCreators`.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from apa_deploy.native import trt_plugin_library
from apa_deploy.records.passport import Passport

from .on_target.recipe import WITH_PLUGIN, Recipe

WHY_DYNAMIC = "--dynamicPlugins registers the plugin; --staticPlugins would only open the library"
WHY_NOT_AOT = (
    "trtexec --onnx cannot build activation aot: its kernels come from Python; --loadEngine runs its engine"
)
_LEVELS = {"AMPERE_PLUS": "ampere+", "SAME_COMPUTE_CAPABILITY": "sameComputeCapability"}


def trtexec_command(recipe: Recipe, activation: str, model: str, engine: str, library: str) -> str:
    """One line for a shell.

    Args:
        model, engine, library: the paths to name in it.
    """
    given = ["trtexec", f"--onnx={model}", f"--saveEngine={engine}", "--stronglyTyped", "--noTF32"]
    for at, option in enumerate(("minShapes", "optShapes", "maxShapes")):
        each = [f"{_quoted(name)}:{'x'.join(map(str, recipe.shapes[name][at]))}" for name in recipe.open_inputs]
        given += [f"--{option}={','.join(each)}"] if each else []  # trtexec takes none for a model of fixed sizes
    given.append("--profilingVerbosity=detailed")
    embedded = recipe.embed_plugin and activation in WITH_PLUGIN
    return shlex.join(given + _builder_options(recipe, embedded) + _plugin_options(recipe, activation, library))


def _quoted(name: str) -> str:
    """An input's name as trtexec reads it: `images:0`, as TensorFlow names it, in quotes of its own."""
    return f"'{name}'" if {":", ","} & {*name} else name


def load_line(engine: Path, passport: Passport) -> str:
    """The line that runs and times an engine that is there."""
    given = ["trtexec", f"--loadEngine={engine}", "--useCudaGraph"]
    if passport.has_host_code:
        given.append("--versionCompatible")  # trtexec allows an engine's host code by it
    return shlex.join([*given, f"--dynamicPlugins={trt_plugin_library()}"] if passport.needs_plugin else given)


def _builder_options(recipe: Recipe, embedded: bool) -> list[str]:
    given = []
    if recipe.workspace:
        given.append(f"--memPoolSize=workspace:{recipe.workspace}B")
    if recipe.optimization_level is not None:
        given.append(f"--builderOptimizationLevel={recipe.optimization_level}")
    if recipe.version_compatible or embedded:  # only such engines carry a plugin (on_target/engine.py)
        given.append("--versionCompatible")
    if recipe.hardware_compatible:
        given.append(f"--hardwareCompatibilityLevel={_LEVELS[recipe.hardware_compatible]}")
    if recipe.strip_weights:
        given.append("--stripWeights")
    return given


def _plugin_options(recipe: Recipe, activation: str, library: str) -> list[str]:
    if activation not in WITH_PLUGIN:
        return []
    given = [f"--dynamicPlugins={library}"]
    return [*given, f"--setPluginsToSerialize={library}"] if recipe.embed_plugin else given
