"""The trained network of the example: what 8 bits cost it, beside the known-bad setting and an independent tool."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from apa_exporters.cli import main

from apa_deploy import Session, ort_library
from apa_deploy.calibration import Quantisation, QuantisationError, quantise, ranges
from apa_deploy.calibration.data import CalibrationData
from apa_deploy.calibration.gate import decibel
from apa_deploy.calibration.ranges import open_calibration_session
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.quantise import CPU, TENSORRT
from apa_deploy.loading.load import load
from tests.serving.serving_process import ServerProcess

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/digits"


@pytest.fixture(scope="module")
def digits():
    """The canonical model, 128 training images, all test images with labels, and the float32 answer."""
    sys.path.insert(0, str(EXAMPLE))
    import data

    model = with_functions(load(EXAMPLE / "digits.pth").trace().proto)
    train, test = data.long_tailed(), data.held_out()
    rows = np.random.default_rng(0).permutation(len(train.labels))[:128]
    used = CalibrationData({"input": train.images.numpy()[rows]}, train.labels.numpy()[rows], "digits")
    x, labels = test.images.numpy(), test.labels.numpy()
    return model, used, x, labels, _run(model, x)


def _run(model, x):
    return open_calibration_session(model, [ort_library()]).run(None, {"input": x})[0]


def _options(**changes):
    return Quantisation(**{"libraries": (ort_library(),), "reduced": True} | changes)


@pytest.mark.parametrize("placement", [CPU, TENSORRT], ids=["cpu", "tensorrt"])
def test_within_28_db_and_a_point(digits, placement):
    model, used, x, labels, wanted = digits
    result = quantise(model, used, _options(placement=placement))
    got = _run(result.proto, x)
    assert decibel(wanted, got) >= 28
    assert np.mean(got.argmax(1) == labels) >= np.mean(wanted.argmax(1) == labels) - 0.01
    assert result.record.quality.accuracy is not None


def _percentile(model, names, feed, *, libraries, **_):
    found = {}
    session = open_calibration_session(ranges.with_outputs(model, names), libraries)
    values = {n: [] for n in names}
    for run in ranges.runs(session, feed):
        for n in names:
            values[n].append(run[n].ravel())
    for n in names:
        low, high = np.percentile(np.concatenate(values[n]), [0.05, 99.95])
        found[n] = (min(float(low), 0), max(float(high), 0))
    return found


def test_ranges_at_the_99_9th_percentile_are_refused(digits, monkeypatch):
    model, used, *_ = digits
    monkeypatch.setattr("apa_deploy.calibration.quantisation.collect_ranges", _percentile)
    with pytest.raises(QuantisationError, match=r"logits at .* dB, limit 25 dB") as caught:
        quantise(model, used, _options())
    assert caught.value.exit_code == 1


def test_a_triton_repository_of_it_is_served(digits, tmp_path):
    """The checkpoint with one command, then a server and both of Triton's clients."""
    pytest.importorskip("tritonclient", reason="the extra serve is not installed")
    import tritonclient.grpc
    import tritonclient.http

    _, used, x, labels, wanted = digits
    np.savez(tmp_path / "samples.npz", **used.feed)
    # the same network is judged by the tests above
    coding = [
        "--precision",
        "int8",
        "--calibration",
        str(tmp_path / "samples.npz"),
        "--reduce-range",
        "--no-verify",
    ]
    out = tmp_path / "repository"
    assert main([str(EXAMPLE / "digits.pth"), *coding, "--format", "triton", "-o", str(out)]) == 0
    with Session(out / "digits/1/model.onnx") as session:
        assert session.prepared
        kinds = {node.op_type for node in onnx.load(session.prepared).graph.node}
        assert kinds >= {"QLinearConv", "QLinearAGLU", "QLinearGatedAddAGLU"}
        ours = session.run({"input": x[:32]})["logits"]
    assert decibel(wanted[:32], ours) >= 28
    with ServerProcess(out) as server:
        for client, address in ((tritonclient.http, server.http), (tritonclient.grpc, server.grpc)):
            given = client.InferInput("input", list(x[:32].shape), "FP32")
            given.set_data_from_numpy(x[:32])
            with client.InferenceServerClient(address) as connection:
                answer = connection.infer("digits", [given]).as_numpy("logits")
            np.testing.assert_array_equal(answer, ours)
    assert np.mean(ours.argmax(1) == labels[:32]) >= 0.9


@pytest.mark.long
def test_as_accurate_as_onnxruntimes_own_quantiser(digits, tmp_path):
    from onnxruntime import quantization as theirs

    model, used, x, labels, wanted = digits
    onnx.save(model, tmp_path / "float.onnx")
    rows = iter([{"input": used.feed["input"][i : i + 16]} for i in range(0, len(used), 16)])

    class Reader(theirs.CalibrationDataReader):
        def get_next(self):
            return next(rows, None)

    theirs.quantize_static(
        tmp_path / "float.onnx", tmp_path / "theirs.onnx", Reader(), per_channel=True, reduce_range=True
    )
    peer, ours = _run(onnx.load(tmp_path / "theirs.onnx"), x), _run(quantise(model, used, _options()).proto, x)
    assert decibel(wanted, ours) >= decibel(wanted, peer) - 1
    right = [np.mean(y.argmax(1) == labels) for y in (ours, peer)]
    assert right[0] >= right[1] - 0.01
