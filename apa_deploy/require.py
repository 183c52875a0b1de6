"""Import a heavy or optional package where it is used, and check its version there."""

from __future__ import annotations

import importlib
from importlib import metadata
from types import ModuleType

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from .errors import MissingError


def require(module: str, versions: str = "", *, add: str, distribution: str = "") -> ModuleType:
    """Return the imported `module`.

    Args:
        module: the import name, e.g. "tensorrt".
        versions: a version specifier set, e.g. ">=10.7"; "" accepts any.
        add: the command that installs it, e.g. "pip install 'apa-deploy[gpu]'".
        distribution: the name on the package index where it differs from `module`.

    Raises:
        MissingError: the package is absent, does not import, or is of another version.
    """
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise MissingError(f"{module}: {error}", f"{module} {versions}".strip(), f"Run: {add}") from error
    version = _version(found, distribution or module)
    if not SpecifierSet(versions, prereleases=True).contains(version):
        raise MissingError(f"{module} {version}", f"{module} {versions}", f"Run: {add}")
    return found


def _version(module: ModuleType, distribution: str) -> str:
    """The module's own; OpenVINO's carries a build number that is no version."""
    try:
        return str(Version(module.__version__))
    except (AttributeError, InvalidVersion):
        return metadata.version(distribution)
