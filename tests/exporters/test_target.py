"""apa_exporters.tensorrt.on_target: the parts of the script that no device is needed for, as tables."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from apa_exporters.tensorrt.on_target import golden, machine
from apa_exporters.tensorrt.on_target.checksums import check_sums, write_sums
from apa_exporters.tensorrt.on_target.layers import computes_in, count_written_types, launches
from apa_exporters.tensorrt.on_target.recipe import Limit
from apa_exporters.tensorrt.on_target.refusal import MISSING, MISUSE, RefusalError

from apa_deploy import escaping
from apa_deploy.detection import matching, rows
from apa_deploy.measure import turns
from apa_deploy.parity import gain
from apa_deploy.parity.model_gate import check_recorded
from apa_deploy.tensors.inputs import seeded_feeds
from tests.exporters.trt_bundles import digits


@pytest.fixture
def folder(tmp_path):
    for name, text in {"a": "one", "below/b": "two"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    write_sums(tmp_path)
    return tmp_path


def test_whole_folder_passes(folder):
    check_sums(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_bytes(b"made by Python itself")
    check_sums(folder)


DAMAGE = [
    ("changed", lambda f: (f / "a").write_text("onf"), "a was changed"),
    ("absent", lambda f: (f / "below/b").unlink(), "below/b is absent"),
    ("added", lambda f: (f / "below/c").write_text(""), "below/c is not listed"),
    ("no list", lambda f: (f / "SHA256SUMS").unlink(), "no SHA256SUMS"),
]


@pytest.mark.parametrize(("damage", "saw"), [c[1:] for c in DAMAGE], ids=[c[0] for c in DAMAGE])
def test_damaged_folder_is_refused(damage, saw, folder):
    damage(folder)
    with pytest.raises(RefusalError, match=saw) as caught:
        check_sums(folder)
    assert caught.value.code == MISUSE


class Driver:
    """libcuda with `count` GPUs and CUDA `version`."""

    def __init__(self, count, version=13000):
        self._count, self._version = count, version

    def __getattr__(self, name):
        return lambda *arguments: self._answer(name, arguments)

    def _answer(self, name, arguments):
        found = {"cuDeviceGetCount": self._count, "cuDriverGetVersion": self._version}.get(name)
        if found is not None:
            arguments[0]._obj.value = found
        return 0


def package(version):
    made = ModuleType("tensorrt")
    made.__version__, made.__spec__ = version, object()
    return made


LACKING = [
    ("everything", None, None, ["the package tensorrt", "the NVIDIA driver"], ["pip install", "r580"]),
    ("tensorrt", None, Driver(1), ["the package tensorrt"], ["pip install"]),
    ("the driver", "10.13.0", None, ["the NVIDIA driver"], ["r580", "r525"]),
    ("a GPU", "11.4.0", Driver(0), ["a GPU"], ["--gpus all"]),
    ("an older tensorrt", "10.3.0", Driver(1), ["tensorrt 10.7 or later (10.3.0 is here)"], ["pip install"]),
]


@pytest.mark.parametrize(("version", "driver", "saw", "do"), [c[1:] for c in LACKING], ids=[c[0] for c in LACKING])
def test_what_is_missing_is_named_with_what_adds_it(version, driver, saw, do, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", package(version) if version else None)
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: name != "tensorrt" or version or None)
    monkeypatch.setattr(machine, "open_driver", lambda: driver)
    with pytest.raises(RefusalError) as caught:
        machine.check()
    assert caught.value.code == MISSING
    assert caught.value.saw == f"this machine lacks {', '.join(saw)}"
    assert all(what in caught.value.do for what in do)


def test_driver_too_old_for_cuda_13(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", package("10.13.0"))
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(machine, "open_driver", lambda: Driver(1, 12080))
    monkeypatch.setattr(machine, "_needs_cuda_13", lambda: True)
    with pytest.raises(RefusalError, match=r"CUDA 13 \(this one: CUDA 12\.8\).*r580"):
        machine.check()


SPELLINGS = [
    ("TensorRT 10, without a context", {"Format/Datatype": "Half"}, "fp16"),
    ("TensorRT 10, with one", {"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}, "fp16"),
    ("TensorRT 10, float", {"Format/Datatype": "Row major linear FP32"}, "fp32"),
    ("TensorRT 11", {"DataType": "Half", "Format": "Row major linear format (kLINEAR)"}, "fp16"),
    ("TensorRT 11, float", {"DataType": "Float", "Format": "kLINEAR"}, "fp32"),
    ("bfloat16 is no float", {"DataType": "BFloat16"}, "bf16"),
    ("bfloat16, short", {"Format/Datatype": "Row major linear BF16"}, "bf16"),
    ("int8", {"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}, "int8"),
]


@pytest.mark.parametrize(("fields", "kind"), [c[1:] for c in SPELLINGS], ids=[c[0] for c in SPELLINGS])
def test_types_however_they_are_spelled(fields, kind):
    assert count_written_types([{"Outputs": [{"Name": "float half", **fields}]}]) == {kind: 1}


def layer(kind, reads, writes="Float"):
    return {
        "LayerType": kind,
        "Inputs": [{"Format/Datatype": reads}],
        "Outputs": [{"Format/Datatype": writes}],
    }


HIDDEN = "N/A due to dynamic shapes"
HALF_KERNEL = "sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x64x32"
FLOAT_KERNEL = "sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nhwc_tilesize128x64x32"
PRECISIONS = [
    ("convolutions in half", [layer("CaskConvolution", "Half"), layer("kgen", "Float")], True),
    ("the last one writes float", [layer("gemm", "Half", "Float")], True),
    ("silently float", [layer("CaskConvolution", "Float"), layer("gemm", "Float")], False),
    ("float, but for a cast at the end", [layer("correlation", "Float"), layer("Reformat", "Half", "Half")], False),
    ("one of three", [layer("gemm", "Half"), layer("gemm", "Float"), layer("MatrixMultiply", "Float")], False),
    ("names that say nothing", [layer("Myelin", "Half")], True),
    ("names that say nothing, float", [layer("Myelin", "Float")], False),
    ("withheld", [layer("CaskConvolution", HIDDEN), layer("gemm", HIDDEN)], None),
    (
        "withheld, weights in half",
        [layer("CaskConvolution", HIDDEN) | {"Weights": {"Type": "Half", "Count": 9}}],
        True,
    ),
    (
        "withheld, weights in float",
        [layer("CaskConvolution", HIDDEN) | {"Weights": {"Type": "Float", "Count": 9}}],
        False,
    ),
    ("withheld, a kernel of half", [layer("CaskConvolution", HIDDEN) | {"TacticName": HALF_KERNEL}], True),
    ("withheld, a kernel of float", [layer("CaskConvolution", HIDDEN) | {"TacticName": FLOAT_KERNEL}], False),
    (
        "withheld, kernels by older names",
        [layer("gemm", HIDDEN) | {"TacticName": "ampere_h16816gemm_128x64"}],
        True,
    ),
    ("most are withheld", [layer("gemm", "Half"), layer("gemm", HIDDEN), layer("gemm", HIDDEN)], True),
    ("nothing but names", [{"LayerType": "CaskConvolution"}], None),
]


@pytest.mark.parametrize(("layers", "really"), [c[1:] for c in PRECISIONS], ids=[c[0] for c in PRECISIONS])
def test_fp16_is_really_fp16(layers, really):
    assert computes_in("fp16", layers) is really


def test_launches_are_counted_without_waits():
    assert launches([{"LayerType": kind} for kind in ("kgen", "shape_call", "gemm", "kgen")]) == {
        "kgen": 2,
        "gemm": 1,
    }


@pytest.mark.parametrize("fault", [0.0, 0.05, np.nan])
def test_checks_are_those_of_the_model_gate(fault):
    """The script's own comparison against `parity.model_gate`, on the same values."""
    model = digits()
    feeds = seeded_feeds(model.signature)
    truth, single = ([model.outputs(feed, dtype) for feed in feeds] for dtype in ("float64", "float32"))
    found = [{"logits": one["logits"] + np.float32(fault)} for one in single]
    (theirs,) = check_recorded(found, "engine", model, feeds, "fp32")
    limit = Limit(theirs.limit, theirs.torch_float32_max_rel, None, theirs.min_cosine, theirs.evidence)
    (ours,) = golden.check("engine", truth, found, {"logits": limit}, ranges=theirs.ranges)
    wanted = theirs.model_dump()
    assert ours.pop("quantiles") == pytest.approx(wanted.pop("quantiles"))
    assert ours.pop("gains") == wanted.pop("gains")
    assert ours == pytest.approx(wanted)


def test_golden_files_read_back(tmp_path):
    sets = [{"a/b": np.arange(3.0)}, {"a/b": np.ones((2, 2))}]
    golden.save(tmp_path / "golden" / "g.npz", sets)
    for written, read in zip(sets, golden.load(tmp_path / "golden" / "g.npz"), strict=True):
        np.testing.assert_array_equal(written["a/b"], read["a/b"])


def test_nothing_of_the_project_is_imported():
    """A bundle carries these files alone."""
    copied = {
        f"{module.__name__.rpartition('.')[2]}.py": module for module in (turns, escaping, rows, matching, gain)
    }
    files = [path for path in Path(golden.__file__).parent.glob("*.py") if path.name not in copied]
    for path in [*files, *(Path(module.__file__) for module in copied.values())]:  # the bundle's own are these
        assert not re.search(r"^\s*(from|import) (apa_deploy|apa_exporters)", path.read_text(), re.MULTILINE)
