"""The files of a Triton repository: models, their data, and the two scripts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from apa_deploy.deployment.counts import check_names, check_number, labels_of
from apa_deploy.errors import InputError
from apa_deploy.native import LibraryError, ort_library, trt_autoload_library, trt_plugin_library
from apa_deploy.progress import notice
from apa_deploy.records.passport import passport_path
from apa_deploy.runtimes.artifacts import ENGINE, artifact_kind
from apa_deploy.runtimes.ort_faults import passes_that_crash
from apa_deploy.serving.triton_releases import RELEASES

from .artifact import Served
from .config import BACKENDS, LABELS, WARM_UP, Backend, InstanceOptions, network_config, warm_up_file, write_config
from .detector_ensemble import check_detector, detector_smoke, write_detector_ensemble
from .ensemble import image_parameters, smoke_picture, write_ensemble
from .options import TritonOptions
from .smoke import raw, write_smoke_test

_SERVED = Path(__file__).with_name("repository_files")
_EXECUTABLE = 0o755


def write_models(root: Path, name: str, found: Served, options: TritonOptions) -> tuple[Any, str]:
    """Write everything below `root`; the network's configuration, and the library wired in ("": none).

    Raises:
        InputError: options that do not fit the artifact.
    """
    backend = _backend(found, options)
    on_cpu = _on_cpu(found, backend, options)
    if options.ensemble and found.detector:
        check_detector(found, options.resize)
    parameters = image_parameters(found, options.resize) if options.ensemble and not found.detector else None
    network = f"{name}_network" if options.ensemble else name
    folder = root / network
    (folder / "1").mkdir(parents=True)
    library = _library(folder, found, on_cpu)
    running = InstanceOptions(
        delay=options.delay,
        instances=options.instances,
        threads=options.threads,
        on_cpu=on_cpu,
        library=library if backend.name != "tensorrt" else "",
        without=tuple(passes_that_crash(found.path)) if backend.name != "tensorrt" else (),
    )
    config = network_config(network, backend, found, running, _labels(folder, found, options))
    write_config(config, folder)
    _place(folder / "1", found, backend)
    if backend.name == "tensorrt":
        shutil.copyfile(RELEASES, root / "triton-releases")
    _warm_up(folder / WARM_UP, found)
    if parameters:
        write_ensemble(root, name, config, parameters, _SERVED)
    elif options.ensemble:
        write_detector_ensemble(root, name, config, found, _SERVED)
    _smoke(root, name, found, parameters, of_picture=options.ensemble and parameters is None)
    return config, library


def _backend(found: Served, options: TritonOptions) -> Backend:
    own = "tensorrt" if artifact_kind(found.path) is ENGINE else "onnxruntime"
    chosen = options.backend or own
    if (chosen == "tensorrt") != (own == "tensorrt"):
        wanted = "tensorrt" if own == "tensorrt" else "onnxruntime or python"
        do = "Export an engine first (--format trt), then make its repository."
        raise InputError(f"--backend {chosen} for {found.path.name}", wanted, do)
    return BACKENDS[chosen]


def _on_cpu(found: Served, backend: Backend, options: TritonOptions) -> bool:
    device = options.device or ("gpu" if backend.name == "tensorrt" else "cpu")
    legal = {"tensorrt": ("gpu",), "python": ("cpu",)}.get(backend.name, ("cpu", "gpu"))
    if device not in legal:
        raise InputError(f"--device {device} with the {backend.name} backend", " or ".join(legal), "Leave it out.")
    return device == "cpu"


def _library(folder: Path, found: Served, on_cpu: bool) -> str:
    """Copy the library that the artifact wants beside it; its name, "" where it runs without.

    TensorRT's backend only opens the libraries that it is given, so that the plugin's loader goes with the plugin.
    """
    if not (found.plugin or found.operators):
        return ""
    try:
        path = trt_plugin_library() if found.plugin else ort_library("cpu" if on_cpu else "cuda")
    except LibraryError as error:
        if found.plugin:
            raise
        notice(f"{error.saw}: the function bodies will run instead of the fused operators")
        return ""
    for library in [path, trt_autoload_library()] if found.plugin else [path]:
        shutil.copyfile(library, folder / library.name)
    return path.name


def _labels(folder: Path, found: Served, options: TritonOptions) -> list[str]:
    names = labels_of(options.labels, None) if options.labels else list(found.labels)
    if names:
        check_names(names, found.path.name)
        check_number(names, {spec.name: spec.declared for spec in found.signature.outputs})
        (folder / LABELS).write_text("".join(f"{label}\n" for label in names), encoding="utf-8")
    return names


def _place(folder: Path, found: Served, backend: Backend) -> None:
    """The artifact under the name that the server looks for; its weights under their own."""
    shutil.copyfile(found.path, folder / backend.artifact)
    for path in found.beside:
        own = path == passport_path(found.path)
        target = passport_path(folder / backend.artifact) if own else folder / path.name
        shutil.copyfile(path, target)
    if backend.name == "python":
        shutil.copyfile(_SERVED / "network_model.py", folder / "model.py")


def _warm_up(folder: Path, found: Served) -> None:
    if found.inputs is None:
        return
    folder.mkdir()
    for at, array in enumerate(found.inputs.values()):
        (folder / warm_up_file(at)).write_bytes(raw(array))


def _smoke(root: Path, name: str, found: Served, parameters: dict[str, str] | None, *, of_picture: bool) -> None:
    precision = str(found.passport.options.get("precision", "fp32")) if found.passport else "fp32"
    inputs, outputs = found.inputs, found.outputs
    specs = found.signature.outputs
    if of_picture:
        inputs, outputs, specs = detector_smoke(found, specs)
    if parameters:
        picture, outputs = smoke_picture(found, parameters)
        inputs = {"image": picture}
    scripts = {"start": "start"}
    if inputs is not None:
        write_smoke_test(root, name, inputs, specs, outputs, precision)
        scripts["smoke_test.py"] = "smoke-test"
    for source, target in scripts.items():
        shutil.copyfile(_SERVED / source, root / target)
        (root / target).chmod(_EXECUTABLE)
