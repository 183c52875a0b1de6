"""The packages that an extra brings, and how each is imported where it is used."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from .errors import MissingError


@dataclass(frozen=True)
class Package:
    """What is wanted of a package, and the command that adds it.

    `distribution`: its name on the package index, where the module has no version of its own. `versions`: a
    specifier set, "" for any.
    """

    add: str
    distribution: str = ""
    versions: str = ""


def _extra(name: str, distribution: str = "", versions: str = "") -> Package:
    return Package(f"pip install 'apa-deploy[{name}]'", distribution, versions)


# Top-level module -> package: everything that is imported only where it is used, because a plain install may
# lack it (or, of onnxruntime, have another build of it).
PACKAGES = {
    "onnxruntime": Package("pip install 'onnxruntime>=1.17'", versions=">=1.17"),
    "tensorrt": _extra("gpu", versions=">=10.7"),
    "cuda": _extra("gpu", "cuda-bindings", ">=12.6.1"),
    "tensorrt_rtx": _extra("rtx", "tensorrt-rtx-cu13", ">=1.4"),
    "uvicorn": _extra("serve"),
    "httptools": _extra("serve"),
    "grpc": _extra("serve", "grpcio"),
    "prometheus_client": _extra("serve", "prometheus-client"),
    "tritonclient": _extra("serve", "tritonclient"),
    "ray": _extra("ray"),
    "jinja2": _extra("report"),
    "matplotlib": _extra("report"),
    "PIL": _extra("images", "pillow"),
    "openvino": _extra("openvino", versions=">=2024.0"),
    "onnx_graphsurgeon": Package("pip install 'onnx-graphsurgeon>=0.5.2'", "onnx-graphsurgeon", ">=0.5"),
    "pytest": Package("pip install 'pytest>=8'"),
}


def require(module: str) -> ModuleType:
    """Return the imported `module`, e.g. "tensorrt" or "PIL.Image": one of PACKAGES, or inside one.

    Raises:
        MissingError: the package is absent, does not import, or is of another version.
    """
    package = PACKAGES[module.partition(".")[0]]
    wanted = f"{package.distribution or module} {package.versions}".strip()
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise MissingError(f"{module}: {error}", wanted, f"Run: {package.add}") from error
    if package.versions:
        version = _version(found, package.distribution or module)
        if not SpecifierSet(package.versions, prereleases=True).contains(version):
            raise MissingError(f"{module} {version}", wanted, f"Run: {package.add}")
    return found


def _version(module: ModuleType, distribution: str) -> str:
    """The module's own; OpenVINO's carries a build number that is no version."""
    try:
        return str(Version(module.__version__))
    except (AttributeError, InvalidVersion):
        return metadata.version(distribution)
