"""The passport's hashes stand between a file and the runtime."""

import numpy as np
import onnx
import pytest

from apa_deploy.graph.values import external_files
from apa_deploy.records.integrity import IntegrityError, verify_passport, warnings
from apa_deploy.records.passport import FileRecord, PassportError, file_record, passport_path
from tests.serving.serving_models import small_model, write_passport


@pytest.fixture
def artifact(tmp_path):
    return small_model(tmp_path / "m.onnx")


def test_without_a_passport(artifact):
    assert verify_passport(artifact, []) is None
    assert "no passport" in warnings(None)[0]


def test_a_fitting_passport(artifact):
    write_passport(artifact)
    passport = verify_passport(artifact, [])
    assert "no parity report" in warnings(passport)[0]


def test_a_renamed_artifact_is_known_by_its_hash(artifact):
    write_passport(artifact)
    target = artifact.with_name("model.onnx")
    passport_path(artifact).rename(passport_path(target))
    assert verify_passport(artifact.rename(target), []) is not None


def _changed(artifact):
    write_passport(artifact)
    artifact.write_bytes(artifact.read_bytes() + b"\x00")


def _weights_changed(artifact):
    data = artifact.with_name("m.onnx.data")
    data.write_bytes(b"weights")
    write_passport(artifact, outputs=[file_record(artifact), file_record(data)])
    data.write_bytes(b"Weights")


def _names_a_folder(artifact):
    record = FileRecord(name="../m.onnx", sha256="0" * 64, bytes=1)
    write_passport(artifact, outputs=[file_record(artifact), record])


def _unknown_weights(artifact):
    write_passport(artifact)


FAULTS = [
    (_changed, [], "sha256"),
    (_weights_changed, ["m.onnx.data"], "m.onnx.data"),
    (_names_a_folder, [], "names without a folder"),
    (_unknown_weights, ["other.data"], "weights in other.data"),
]


@pytest.mark.parametrize(("plant", "weights", "saw"), FAULTS, ids=[f[0].__name__.strip("_") for f in FAULTS])
def test_a_planted_fault_is_refused(artifact, plant, weights, saw):
    plant(artifact)
    with pytest.raises(IntegrityError, match=saw):
        verify_passport(artifact, weights)


def test_a_damaged_passport_is_refused(artifact):
    passport_path(artifact).write_text("{")
    with pytest.raises(PassportError):
        verify_passport(artifact, [])


def test_external_files(tmp_path):
    weight = onnx.numpy_helper.from_array(np.zeros(256, np.float32), "w")
    graph = onnx.helper.make_graph([], "g", [], [], [weight])
    path = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph), path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert external_files(onnx.load(path, load_external_data=False)) == ["m.data"]
