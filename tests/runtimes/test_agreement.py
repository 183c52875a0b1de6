"""apa_deploy.runtimes.agreement: how far 8-bit codes that round the other way may carry, in detectors too."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import apa_deploy
from apa_deploy.calibration import Quantisation, quantise
from apa_deploy.calibration.data import CalibrationData
from apa_deploy.detection.rows import Rows, align_rows, mean_precision
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.layout.swap import BlockedLayoutError
from apa_deploy.loading.load import load
from apa_deploy.runtimes.agreement import _is_close_in_codes, check_coded_agreement
from tests.detection.small_detectors import SIZE
from tests.detection.test_export import save
from tests.detection.test_int8 import cuttings


@pytest.mark.parametrize(
    ("own", "noise", "close"),
    [(0, 0.1, True), (0, 0.2, False), (0.25, 0.27, True), (0.25, 0.45, False), (2, 0.45, True), (2, 0.6, False)],
)
@pytest.mark.parametrize("zero", [0, 40])
def test_noise_is_held_against_that_of_onnx_runtime_s_own_optimiser(own, noise, close, zero):
    """A zero point is no signal."""
    random = np.random.default_rng(0)
    right, ours, theirs = (random.standard_normal((2, 4000)) for _ in range(3))
    values = right + noise * ours, right, right + own * theirs
    assert _is_close_in_codes(*(value + zero for value in values), zero) is close


@pytest.fixture(scope="module")
def detector(tmp_path_factory, library):
    """The folder of a small detector in 8 bits, in float32, and as a session prepares the first."""
    folder = tmp_path_factory.mktemp("detector")
    network = load(save(folder / "detector.pth", "coco"), input_shape=(3, *SIZE))
    traced, data = network.trace(), CalibrationData(cuttings(16), None, "cuttings")
    result = quantise(traced.proto, data, Quantisation(features=traced.features, judge=False))
    onnx.save(with_functions(result.proto), folder / "int8.onnx")
    onnx.save(result.float32, folder / "float32.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        with apa_deploy.Session(folder / "int8.onnx") as session:
            assert session.prepared, "a detector in 8 bits is not prepared"
            (folder / "prepared.onnx").write_bytes(session.prepared.read_bytes())
        yield folder


def test_a_prepared_detector_finds_what_its_file_finds(detector):
    """Detection by detection, and closer than 8 bits are to float32."""
    feed, answers = cuttings(8), {}
    for name, options in {"prepared": {}, "int8": {"layout": False}, "float32": {"layout": False}}.items():
        path = detector / ("float32.onnx" if name == "float32" else "int8.onnx")
        with apa_deploy.Session(path, **options) as session:
            answers[name] = session.run(feed)
            assert bool(session.prepared) == (name == "prepared")
    wanted = answers["int8"]
    assert (wanted["num"] > 5).all()
    precision, off = {}, {}
    for name in ("prepared", "float32"):
        aligned = align_rows(answers[name], wanted, Rows(0.5, 0.02), fail=False)
        off[name] = [float(np.abs(aligned[key] - wanted[key]).max()) for key in ("boxes", "scores", "masks")]
        precision[name] = mean_precision([answers[name]], [wanted])
        assert (aligned["labels"] == wanted["labels"]).all()
    assert precision["prepared"] > precision["float32"]
    assert all(ours < eight_bits for ours, eight_bits in zip(off["prepared"], off["float32"], strict=True)), off


def roll_channels(model, kind, at, name=""):
    """The weights of the middle operator of `kind` that has `name` in them, output channels moved on by one."""
    nodes = [node for node in model.graph.node if node.op_type == kind and name in node.input[at]]
    weights = next(t for t in model.graph.initializer if t.name == nodes[len(nodes) // 2].input[at])
    weights.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(weights), 1, 0), weights.name))


def lose_residual(model):
    node = next(node for node in model.graph.node if node.op_type == "QLinearGatedAddAGLU")
    factors = next(a for a in node.attribute if a.name == "factors")
    factors.floats[1] = 1e-9


FAULTS = {
    "none": lambda model: None,
    "a permuted channel": lambda model: roll_channels(model, "QLinearConv", 3),
    "a lost residual": lose_residual,
    "another class": lambda model: roll_channels(model, "Gemm", 1, "fc_cls"),
    "other masks": lambda model: roll_channels(model, "ConvTranspose", 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_before_or_behind_the_codes_is_seen(detector, tmp_path, library, fault):
    model = onnx.load(detector / "prepared.onnx")
    FAULTS[fault](model)
    onnx.save(model, tmp_path / "tried.onnx")
    if fault == "none":
        check_coded_agreement(detector / "int8.onnx", tmp_path / "tried.onnx", library)
        return
    with pytest.raises(BlockedLayoutError, match="outputs differ"):
        check_coded_agreement(detector / "int8.onnx", tmp_path / "tried.onnx", library)
