"""pytest plugin, found by itself where apa-deploy is installed: the fixture `assert_parity`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..verification.record import Verification


@pytest.fixture
def assert_parity(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Verification]:
    """`apa_deploy.testing.assert_parity`, which also leaves its figures behind.

    The verification goes to `tmp_path/parity.json`, the largest error of each output into the properties of the
    test, which `--junitxml` writes.
    """

    def check(*compared: Any, **options: Any) -> Verification:
        from . import ParityAssertionError, assert_parity

        try:
            verification = assert_parity(*compared, **options)
        except ParityAssertionError as error:
            _keep(error.verification, request, tmp_path)
            raise
        _keep(verification, request, tmp_path)
        return verification

    return check


def _keep(verification: Verification, request: pytest.FixtureRequest, folder: Path) -> None:
    (folder / "parity.json").write_text(verification.model_dump_json(indent=2), encoding="utf-8")
    for candidate in verification.candidates:
        for verdict in candidate.outputs:
            name = f"max_rel {verdict.check.runner} {verdict.check.name}"
            request.node.user_properties.append((name, verdict.check.max_rel))
