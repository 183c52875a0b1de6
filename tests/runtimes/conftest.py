"""Makes `canonical_models` and plugins/tests' `ort_building` importable, and builds the library."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "plugins/tests")]

import ort_building as building  # noqa: E402

from tests.standin.machine import machine  # noqa: E402, F401 - a fixture


@pytest.fixture(scope="session")
def library():
    """libapa_ort.so, built from this checkout where the package is imported from it."""
    if building.compiler() is None and not (building.native.FOLDER / "libapa_ort.so").is_file():
        pytest.skip(building.NO_COMPILER)
    return building.library()
