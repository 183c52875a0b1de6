"""A folder that holds all that a machine with a GPU needs to build, judge and time an engine: one command there.

model.onnx            the file to build; with --activation auto, model.custom.onnx is the one for the plugin
model.aot.onnx, aot/  the file for ahead-of-time kernels, and these
model.codes.onnx      of int8: the one for the plugin, which writes the codes of 8 bits itself
build.py, apa_target/ what builds
recipe.json           with which options, and how right it must be
golden/               inputs, float64's and torch float32's outputs, what gains may be
fp16/, int8/, fp8/    with --precision auto: each with a recipe, models, golden outputs and a passport of its own
plugin/               the library, its sources, and a script that builds it for another platform
passport.json         of the ONNX files, judged here; the engine's own starts from it
SHA256SUMS            over all of these
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import onnx

from apa_deploy import escaping
from apa_deploy import network as evaluation
from apa_deploy.choices import INT8
from apa_deploy.detection import matching, rows
from apa_deploy.errors import ApaError, GateError, InputError
from apa_deploy.graph.absorb import absorb_quantisers
from apa_deploy.graph.kernels import with_kernels
from apa_deploy.graph.node import activations
from apa_deploy.graph.precision import PrecisionError
from apa_deploy.measure import turns
from apa_deploy.native import aot_kernels, trt_plugin_library, trt_plugin_sources
from apa_deploy.network import Network, Trace
from apa_deploy.parity import gain
from apa_deploy.parity.model_gate import AVERAGE_PRECISION, check_recorded, has_evidence
from apa_deploy.progress import notice, step
from apa_deploy.records.passport import FileRecord, Passport, dump, file_record, passport_path
from apa_deploy.tensors.inputs import seeded_feeds
from apa_deploy.tensors.signature import Feed, Signature

from ..onnx.coding import CODED, samples_of
from ..onnx.export import OnnxOptions, choose_feeds, export_onnx, trace_network
from ..onnx.from_onnx import batches_of
from ..onnx.sizes import check_profile
from .on_target import aot, golden
from .on_target.checksums import write_sums
from .on_target.recipe import (
    AOT,
    DECOMPOSED,
    FLOAT32,
    GAINS,
    INPUTS,
    PLUGIN,
    PLUGIN_CODES,
    TRUTH,
    Detections,
    Limit,
    Recipe,
    read_recipe,
    read_recipes,
    write_recipe,
)  # fmt: skip
from .on_target.record import PASSPORT
from .options import AUTO, TrtOptions
from .precisions import split_precision
from .trtexec import WHY_DYNAMIC, WHY_NOT_AOT, trtexec_command

SCRIPT, LIBRARY, SOURCES = "build.py", "plugin/libapa_trt.so", "plugin/src"
_FORMATS = {DECOMPOSED: "onnx", PLUGIN: "onnx-custom", AOT: "onnx-custom"}
_FILES = {DECOMPOSED: "model.onnx", AOT: "model.aot.onnx", PLUGIN: "model.custom.onnx"}
_CODES = "model.codes.onnx"
_ONE_CODE = 2.0**-8  # of a factor in 8 bits
_FETCH_SPARE = ("nvcc.py", "cuda12.py", "onnxruntime_headers.py")
_TEMPLATES = Path(__file__).with_name("bundle_files")


def write_bundle(folder: Path, engine: str, network: Network, options: TrtOptions) -> tuple[Recipe, Passport]:
    """Fill `folder`, which is there and empty; `engine`: the name that the engine will have.

    Of several precisions each has a folder of its own in it; recipe and passport are those of the first.

    Raises:
        ParityError: an ONNX file is not right.
        QuantisationError: 8 bits lose too much.
        LibraryError: the plugin was asked for, and is not built here.
    """
    network = network.for_tensorrt()
    if network.signature.photograph:  # of a detector one picture, in fixed sizes
        options = replace(options, batches=batches_of(network, options.batches))
    several, not_tried = split_precision(options)
    for name, why in not_tried.items():
        notice(f"{name} is not tried: {why}")
    with step("Tracing the network"):
        traced = trace_network(network, _graph(next(iter(several.values())), DECOMPOSED))
    batches = batches_of(network, options.batches)
    several = {name: replace(one, batches=batches) for name, one in several.items()}
    models, without = _models(options, traced)
    homes = {folder / name if len(several) > 1 else folder: one for name, one in several.items()}
    written, failed = _write_each(homes, engine, network, traced, models)
    for home, (recipe, passport) in written.items():
        library = os.path.relpath(folder / LIBRARY, home) if PLUGIN in models else None
        why_not = not_tried | without | failed | recipe.not_tried
        write_recipe(replace(recipe, plugin=library, not_tried=why_not), home)
        (home / PASSPORT).write_text(dump(passport), encoding="utf-8")
    if PLUGIN in models:
        _write_plugin(folder)
    _write_script(folder)
    write_sums(folder)
    first, (_, passport) = next(iter(written.items()))
    return read_recipe(first), passport


def _write_each(
    homes: dict[Path, TrtOptions], engine: str, network: Network, traced: Trace, models: dict[str, str]
) -> tuple[dict[Path, tuple[Recipe, Passport]], dict[str, str]]:
    """What each precision's folder holds, and why not of those that fail their gate; the last error if all do."""
    written, failed = {}, {}
    for home, options in homes.items():
        home.mkdir(exist_ok=True)
        if len(homes) > 1:
            notice(f"candidates in {options.graph.precision}")
        try:
            written[home] = _write_candidates(home, engine, network, options, traced, models)
        except (GateError, PrecisionError) as error:
            if not written and home == list(homes)[-1]:
                raise
            shutil.rmtree(home)
            failed[options.graph.precision] = error.saw
            notice(f"{options.graph.precision} is not tried: {error}")
    return written, failed


def _write_candidates(
    folder: Path, engine: str, network: Network, options: TrtOptions, traced: Trace, models: dict[str, str]
) -> tuple[Recipe, Passport]:
    """The models of one precision and their golden outputs; the recipe, without the plugin's place."""
    shapes = profile(options, network.signature, _feeds(network, options, traced)[0])
    check_profile(shapes, traced.proto)
    passport = _write_models(folder, network, models, traced, options)
    models, not_tried = _add_codes(folder, models, passport) if options.graph.precision == INT8 else (models, {})
    with step("Recording golden outputs"):
        limits = _write_golden(folder, network, passport, options, traced)
    recipe = Recipe(
        models=models,
        engine=engine,
        shapes=shapes,
        precision=options.graph.precision,
        limits=limits if options.graph.verify else {},
        detections=_detections(network, limits),
        workspace=options.workspace,
        optimization_level=options.optimization_level,
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        strip_weights=options.strip_weights,
        embed_plugin=options.embed_plugin and PLUGIN in models,
        runs=options.runs,
        allow_unknown_precision=options.allow_unknown_precision,
        open_inputs=[v.name for v in traced.proto.graph.input if not _is_fixed(v)],
        not_tried=not_tried,
    )
    return recipe, passport


def profile(options: TrtOptions, signature: Signature, feed: Feed) -> dict[str, list[list[int]]]:
    """The optimization profile: least, usual and largest shape of each input of `feed`."""
    if options.images:
        first = signature.first
        samples = [first.resize(image).sizes for image in options.images]
        return {first.name: [[batch, *sample] for batch, sample in zip(options.batches, samples, strict=True)]}
    return {name: [[batch, *array.shape[1:]] for batch in options.batches] for name, array in feed.items()}


def _is_fixed(value: onnx.ValueInfoProto) -> bool:
    return all(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _models(options: TrtOptions, traced: Trace) -> tuple[dict[str, str], dict[str, str]]:
    """Which ONNX file serves which activation; "auto" tries what can be tried, and why not the rest."""
    if options.activation != AUTO:
        _check_activation(options.activation, traced)
        return {options.activation: "model.onnx"}, {}
    models, not_tried = {DECOMPOSED: _FILES[DECOMPOSED]}, {}
    for activation in (AOT, PLUGIN) if traced.activations else ():
        try:
            _check_activation(activation, traced)
            models[activation] = _FILES[activation]
        except ApaError as error:
            notice(f"activation {activation} is not tried: {error}")
            not_tried[activation] = error.saw
    return models, not_tried


def _check_activation(activation: str, traced: Trace) -> None:
    """Raise an `ApaError` where this network, or this machine, lacks what the activation needs."""
    if activation == DECOMPOSED:
        return
    if not traced.activations:
        saw = f"--activation {activation} for a network without learned activations"
        raise InputError(saw, "one that has some", "Leave it out.")
    if activation == PLUGIN:
        trt_plugin_library()
        return
    aot_kernels()
    if many := [site.name for site in traced.activations if site.channels > 1]:
        saw = f"{many[0]} with parameters per channel"
        do = "Use --activation plugin or decomposed: ahead-of-time kernels have one of each."
        raise InputError(saw, "one lambda and one kappa a layer", do)


def _write_models(
    folder: Path, network: Network, models: dict[str, str], traced: Trace, options: TrtOptions
) -> Passport:
    """Export each file; one passport, that of the first, with what was found about the others."""
    made = {
        name: export_onnx(network, folder / name, _graph(options, activation), traced)
        for activation, name in models.items()
        if activation != AOT or PLUGIN not in models
    }
    for name in made:
        passport_path(folder / name).unlink()
    if AOT in models:
        aot_record = _write_kernels(folder, models.get(PLUGIN, models[AOT]), models[AOT])
    first, *others = made.values()
    for other in others:
        first.outputs += other.outputs
        if first.parity and other.parity:
            checks = (
                check.model_copy(update={"runner": f"{check.runner}, com.apa"}) for check in other.parity.outputs
            )
            first.parity.outputs += list(checks)
            first.parity.activations += other.parity.activations
            first.parity.detections += other.parity.detections
    if AOT in models:
        first.outputs = [record for record in first.outputs if record.name != aot_record.name] + [aot_record]
    first.options |= _passport_options(options)
    return first


def _write_kernels(folder: Path, canonical: str, name: str) -> FileRecord:
    """The judged file with com.apa nodes, as one whose nodes are kernels of their own; and these kernels beside it.

    Weights that lie beside the judged file are those of this one too.
    """
    model, kernels = with_kernels(onnx.load(folder / canonical, load_external_data=False))
    onnx.save(model, folder / name)
    (folder / aot.KERNELS).parent.mkdir()
    shutil.copy(aot_kernels(), folder / aot.KERNELS)
    layers = [{"kind": k.kind, "regime": k.regime, "coefficients": k.coefficients.hex()} for k in kernels]
    (folder / aot.LAYERS).write_text(json.dumps(layers, indent=1) + "\n", encoding="utf-8")
    return file_record(folder / name)


def _add_codes(folder: Path, models: dict[str, str], passport: Passport) -> tuple[dict[str, str], dict[str, str]]:
    """`models`, and beside the one for the plugin another, whose activations write their codes themselves; or why
    there is none. Weights that lie beside the one are those of the other too."""
    if PLUGIN not in models:
        return models, {}
    model = onnx.load(folder / models[PLUGIN], load_external_data=False)
    absorbed, kept = absorb_quantisers(model)
    if len(kept) == len(list(activations(model.graph))):
        why = f"no activation can write its codes ({'; '.join(f'{name}: {why}' for name, why in kept.items())})"
        return models, {PLUGIN_CODES: why}
    onnx.save(absorbed, folder / _CODES)
    passport.outputs.append(file_record(folder / _CODES))
    return models | {PLUGIN_CODES: _CODES}, {}


def _graph(options: TrtOptions, activation: str) -> OnnxOptions:
    return replace(options.graph, force=False).as_onnx(_FORMATS[activation], options.fixed_batch)


def _passport_options(options: TrtOptions) -> dict[str, object]:
    """The engine's options, for the passport."""
    fields = {
        name: value for name, value in vars(options).items() if name not in ("graph", "timing_cache", "bundle")
    }
    return {"format": "trt", "batch": None} | fields


def _write_golden(
    folder: Path, network: Network, passport: Passport, options: TrtOptions, traced: Trace
) -> dict[str, Limit]:
    """Inputs and outputs at the usual batch; the limits that `model_gate` derives from them."""
    feeds, names = _feeds(network, options, traced), passport.output_names
    truth, single = (
        [{name: values[name] for name in names} for values in (network.outputs(feed, dtype) for feed in feeds)]
        for dtype in (evaluation.TRUTH, evaluation.FLOAT32)
    )
    golden.save(folder / INPUTS, [_as_given(feed, options) for feed in feeds])
    golden.save(folder / TRUTH, truth)
    golden.save(folder / FLOAT32, single)
    if passport.quantisation:
        return _limits_of_codes(folder / "model.onnx", feeds, truth, single, options.graph.coding.min_sqnr)
    checks = check_recorded(single, "torch float32", network, feeds, options.graph.precision)
    golden.save(folder / GAINS, [{name: one for c in checks for name, one in c.ranges.items()}])
    return {
        c.name: Limit(c.limit, c.torch_float32_max_rel, c.stored_max_rel, c.min_cosine or 0.0, c.evidence)
        for c in checks
    }


def _detections(network: Network, limits: dict[str, Limit]) -> Detections | None:
    if network.rows is None:
        return None
    lost = limits.get(AVERAGE_PRECISION)
    return Detections(network.rows.nms_iou, network.rows.score_thr, lost.limit if lost else None)


def _limits_of_codes(
    model: Path, feeds: list[Feed], truth: list[Feed], single: list[Feed], min_sqnr: float
) -> dict[str, Limit]:
    """Twice what the same codes cost in ONNX Runtime: an engine rounds its sums elsewhere.

    But no more than twice the noise that --min-sqnr allows there, `noise` of the signal: an error of four such
    deviations, and the cosine that such noise leaves.
    """
    from apa_deploy.runtimes.ort_session import open_session

    noise, session = 2 * 10 ** (-min_sqnr / 20), open_session(model)
    names = [value.name for value in session.get_outputs()]
    coded = [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]
    values = {
        name: [[one[name].astype(np.float64) for one in runs] for runs in (truth, coded)] for name in truth[0]
    }
    ranges = {k: gain.gain_ranges(v[0], [v[1]], 2.0**-8, noise) for k, v in values.items()}  # of one code in 256
    golden.save(model.parent / GAINS, [ranges])

    def largest(found: list[Feed], name: str) -> float:
        scale = max(np.abs(one[name]).max(initial=0) for one in truth)
        errors = [np.abs(a[name] - b[name]).max(initial=0) for a, b in zip(found, truth, strict=True)]
        return float(max(errors) / scale)

    return {
        name: Limit(
            min(2 * largest(coded, name), 4 * noise),
            largest(single, name),
            min_cosine=max(0.0, 1 - noise**2 / 2),
            evidence=has_evidence([one[name] for one in truth]),
        )
        for name in truth[0]
    }


def _feeds(network: Network, options: TrtOptions, traced: Trace) -> list[Feed]:
    """The user's inputs, or seeded ones, at the usual batch and size; of 8-bit engines samples held back."""
    batch = options.batches[1]
    if options.graph.precision in CODED and not options.graph.inputs:
        _, held_back = samples_of(network, traced, options.graph.coding).split()
        return [{name: np.resize(array, (batch, *array.shape[1:])) for name, array in held_back.feed.items()}]
    if options.images and not options.graph.inputs:
        return seeded_feeds(Signature((network.signature.first.resize(options.images[1]),)), batch)
    feeds, _ = choose_feeds(network, batch, options.graph.inputs)
    return [{name: np.resize(array, (batch, *array.shape[1:])) for name, array in feed.items()} for feed in feeds]


def _as_given(feed: Feed, options: TrtOptions) -> Feed:
    """In the type that the engine takes."""
    half = options.graph.half_io
    return {k: v.astype(np.float16) if half and v.dtype == np.float32 else v for k, v in feed.items()}


def _write_plugin(folder: Path) -> None:
    (folder / SOURCES).mkdir(parents=True)
    shutil.copy(trt_plugin_library(), folder / LIBRARY)
    for name, path in trt_plugin_sources().items():
        spare = _FETCH_SPARE if name == "fetch" else ("*.py", "*.sh", "CMakeLists.txt")
        shutil.copytree(path, folder / SOURCES / name, ignore=shutil.ignore_patterns("__pycache__", *spare))
    shutil.copy(_TEMPLATES / "build_plugin.sh", folder / "plugin")


def _write_script(folder: Path) -> None:
    package = Path(golden.__file__).parent
    shutil.copytree(package, folder / "apa_target", ignore=shutil.ignore_patterns("__pycache__"))
    for module in (escaping, turns, rows, matching, gain):
        shutil.copy(str(module.__file__), folder / "apa_target")
    shutil.copy(_TEMPLATES / SCRIPT, folder)
    lines = "\n".join(f"    {line}" for line in bundle_lines(folder))
    text = (_TEMPLATES / "README.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(text.replace("TRTEXEC", lines), encoding="utf-8")


def bundle_lines(folder: Path) -> list[str]:
    """Those of all recipes of a bundle, what is said of several once."""
    lines = [trtexec_lines(one, home.relative_to(folder)) for home, one in read_recipes(folder).items()]
    return list(dict.fromkeys(line for each in lines for line in each))


def trtexec_lines(recipe: Recipe, home: Path = Path()) -> list[str]:
    """A command an activation, to be run in the bundle's folder; `home`: where the recipe lies in it."""
    built = {name: PurePosixPath(home, file) for name, file in recipe.models.items() if name != AOT}
    engine = str(PurePosixPath(home, recipe.engine))
    lines = [trtexec_command(recipe, name, str(file), engine, LIBRARY) for name, file in built.items()]
    lines += [f"# {WHY_DYNAMIC}"] if PLUGIN in built else []
    return [*lines, f"# {WHY_NOT_AOT}"] if AOT in recipe.models else lines
