"""apa_deploy.runtimes.packages."""

import importlib
import sys

import pytest

from apa_deploy.runtimes.packages import conflict, find_packages


@pytest.mark.parametrize("packages", [(), ("onnxruntime",), ("onnxruntime-gpu",)])
def test_one_package_is_no_conflict(packages):
    assert conflict(packages) is None


def test_both_are_noticed_and_explained(tmp_path, monkeypatch):
    """Two real distributions' metadata on the path, as pip leaves them."""
    for name in ("onnxruntime", "onnxruntime_gpu"):
        info = tmp_path / f"{name}-1.32.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.32.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    assert find_packages() == ("onnxruntime", "onnxruntime-gpu")
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in conflict(find_packages())
