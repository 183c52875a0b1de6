"""apa_deploy.runtimes.ort_gpu, beside a driver that is not here: what is older than a library's CUDA is named."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import canonical_models as models
import onnx
import pytest

from apa_deploy import native
from apa_deploy.errors import MissingError
from apa_deploy.graph.functions import with_functions
from apa_deploy.maths import Parameters
from apa_deploy.runtimes import cuda_driver, onnxruntime, ort_gpu
from apa_deploy.runtimes.ort_gpu import built_with, require_gpu
from apa_deploy.runtimes.providers import CUDA

RELEASE = b"Cuda compilation tools, release 13.0, V13.0.48"


class Package:
    """An onnxruntime-gpu as far as it is asked before a session starts."""

    __name__, __version__ = "onnxruntime", "1.31.1"

    def __init__(self, folder, cuda):
        self.__file__ = str(folder / "__init__.py")
        (folder / "capi").mkdir()
        (folder / "capi/build_and_package_info.py").write_text(f"package_name = 'onnxruntime-gpu'\n{cuda}\n")


def serve(monkeypatch, cuda):
    """One GPU, and a driver for `cuda`."""
    for module in (cuda_driver, native):
        monkeypatch.setattr(module, "cuda_version", lambda: cuda)
    monkeypatch.setattr(ort_gpu, "missing_gpu", lambda: None)


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("cuda_version = '13.0'", (13, 0)),
        ("cuda_version = '12.2'", (12, 2)),
        ("cuda_version = ''", None),
        ("", None),
    ],
)
def test_the_cuda_of_a_package(tmp_path, line, version):
    assert built_with(Path(Package(tmp_path, line).__file__).parent) == version
    assert built_with(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("served", "package", "refused"),
    [((12, 4), "13.0", True), ((13, 0), "13.2", False), ((13, 1), "12.8", False), ((11, 8), "12.2", True)],
)
def test_a_package_newer_than_the_driver(tmp_path, monkeypatch, served, package, refused):
    serve(monkeypatch, served)
    ort = Package(tmp_path, f"cuda_version = '{package}'")
    with pytest.raises(MissingError) as caught:  # without a refusal the provider's library is what is missing
        require_gpu(ort, [CUDA])
    said, major = str(caught.value), package.split(".")[0]
    if refused:
        assert f"{CUDA} on a driver for CUDA {served[0]}.{served[1]} and older" in said
        assert f"or later, for CUDA {major}, with which onnxruntime-gpu 1.31.1 is built" in said
        assert {"12": "r525", "13": "r580"}[major] in caught.value.do
    else:
        assert "libonnxruntime_providers_cuda.so" in said


@pytest.mark.parametrize("functions", [True, False])
def test_our_operators_newer_than_the_driver(tmp_path, monkeypatch, capsys, functions):
    """Function bodies run where the model has some; else what to install is said before a session is made."""
    serve(monkeypatch, (12, 4))
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    onnxruntime._fall_back.cache_clear()
    (tmp_path / "libapa_ort_cuda.so").write_bytes(RELEASE)
    model = models.one_node(Parameters((0.5,), (1.0,)))
    onnx.save(with_functions(model) if functions else model, tmp_path / "model.onnx")
    wanted = "libapa_ort_cuda.so on a driver for CUDA 12.4 and older; wanted r580 or later, for CUDA 13"
    if functions:
        assert not onnxruntime._driver_serves_operators(tmp_path / "model.onnx")
        assert f"{wanted}. Install the NVIDIA driver r580 or later. The model's function" in capsys.readouterr().err
    else:
        with pytest.raises(MissingError, match=wanted) as caught:
            onnxruntime._driver_serves_operators(tmp_path / "model.onnx")
        assert "export the model again, with function bodies" in caught.value.do
    serve(monkeypatch, (13, 0))
    assert onnxruntime._driver_serves_operators(tmp_path / "model.onnx")


@pytest.mark.skipif(cuda_driver.device_count() > 0, reason="this machine has a GPU")
def test_the_driver_itself_is_asked(tmp_path):
    """A libcuda.so.1 that shows one L4 and serves CUDA 12.4, in a process of its own."""
    compiler = shutil.which("cc") or shutil.which("c++")
    if not compiler:
        pytest.skip("no C compiler on this machine")
    source = Path(__file__).parents[1] / "doctor/libcuda.c"
    subprocess.run([compiler, "-x", "c", "-shared", "-fPIC", source, "-o", tmp_path / "libcuda.so.1"], check=True)
    code = "from apa_deploy.runtimes.cuda_driver import lacking_driver as l; print(l((13, 0)), l((12, 8)), l(None))"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == (
        "('a driver for CUDA 12.4 and older', 'r580 or later, for CUDA 13', "
        "'Install the NVIDIA driver r580 or later') None None\n"
    )
