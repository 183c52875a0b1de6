"""Files that are replaced while requests are answered."""

import json

import numpy as np
import pytest
from load import Load
from serving_models import TOLERANCE, small_model, truth, write_passport
from serving_process import ServerProcess

from apa_deploy.records.passport import passport_path

ROWS = [[-1.0, 0.5, 1.0, 2.0]]


@pytest.fixture
def repository(tmp_path):
    small_model(tmp_path / "act" / "1" / "model.onnx", kappa=1.0)
    with ServerProcess(tmp_path, "--reload-interval", 0.05) as server:
        yield tmp_path, server


def put(path, kappa):
    """Replace a model in one step."""
    small_model(path.with_name("new"), kappa=kappa).replace(path)


def y_of(server, model="act"):
    status, _, document = server.infer(ROWS, model)
    assert status == 200, document
    return np.array(document["outputs"][0]["data"]).reshape(1, 4)


def kappa_of(y, candidates, x=ROWS):
    """The kappa whose truth these outputs are."""
    found = [k for k in candidates if np.allclose(y, truth(np.array(x), k)["y"], rtol=0, atol=TOLERANCE)]
    assert len(found) == 1, y
    return found[0]


def test_replaced_under_load_every_answer_is_the_old_or_the_new(repository):
    root, server = repository
    path = root / "act" / "1" / "model.onnx"
    with Load(server, "act", http_clients=2, grpc_clients=2) as load:
        for at, kappa in enumerate([2.0, 3.0, 1.5], 1):
            load.wait_for_answers(len(load.outcome.answers) + 20)
            put(path, kappa)
            server.wait_for("loaded", count=at, reload=True)
        load.wait_for_answers(len(load.outcome.answers) + 20)
    assert not load.outcome.lost
    assert not load.outcome.refused
    seen = {kappa_of(y, [1.0, 2.0, 3.0, 1.5], x) for x, y in load.outcome.answers.values()}
    assert seen == {1.0, 2.0, 3.0, 1.5}
    assert kappa_of(y_of(server), [1.0, 2.0, 3.0, 1.5]) == 1.5


def test_what_does_not_load_leaves_the_old_model_in_service(repository):
    root, server = repository
    path = root / "act" / "1" / "model.onnx"
    path.with_name("broken").write_bytes(b"no model")
    path.with_name("broken").replace(path)
    said = server.wait_for("load", level="error")
    assert "model.onnx" in said["error"]
    assert kappa_of(y_of(server), [1.0, 2.0]) == 1.0
    row = json.loads(server.ask("/v2/repository/index", {})[2])[0]
    assert row["state"] == "READY"
    assert "no ONNX model" in row["reason"]
    put(path, 2.0)
    server.wait_for("loaded", reload=True)
    assert kappa_of(y_of(server), [1.0, 2.0]) == 2.0
    assert len(server.events("load")) == 1  # tried once, not at every look


def test_a_file_that_is_not_the_passports_is_not_loaded(repository):
    root, server = repository
    path = root / "act" / "1" / "model.onnx"
    write_passport(path)
    server.wait_for("loaded", reload=True)
    put(path, 2.0)
    assert "sha256" in server.wait_for("load", level="error")["error"]
    assert kappa_of(y_of(server), [1.0, 2.0]) == 1.0
    assert server.ask("/v2/repository/models/act/load", {})[0] == 400
    write_passport(path)
    server.wait_for("loaded", count=2, reload=True)
    assert kappa_of(y_of(server), [1.0, 2.0]) == 2.0


def test_versions_come_and_go(repository):
    root, server = repository
    small_model(root / "staged" / "model.onnx", kappa=2.0)
    (root / "staged").rename(root / "act" / "2")
    server.wait_for("unloaded", model="act", version=1)
    assert kappa_of(y_of(server), [1.0, 2.0]) == 2.0
    assert server.ask("/v2/models/act/versions/1")[0] == 404
    (root / "act" / "2").rename(root / ".gone")
    server.wait_for("unloaded", model="act", version=2)
    assert kappa_of(y_of(server), [1.0, 2.0]) == 1.0


def test_models_come_and_go(repository):
    root, server = repository
    small_model(root / ".new", kappa=2.0).rename(root / "other.onnx")
    server.wait_for("loaded", model="other")
    assert kappa_of(y_of(server, "other"), [1.0, 2.0]) == 2.0
    (root / "other.onnx").unlink()
    server.wait_for("unloaded", model="other")
    assert server.infer(ROWS, "other")[0] == 503


def test_an_unloaded_model_stays_away_until_it_is_loaded(repository):
    root, server = repository
    assert server.ask("/v2/repository/models/act/unload", {})[0] == 200
    put(root / "act" / "1" / "model.onnx", 2.0)
    small_model(root / "other.onnx")
    server.wait_for("loaded", model="other")  # so the files were looked at since
    assert server.infer(ROWS)[0] == 503
    assert server.ask("/v2/repository/models/act/load", {})[0] == 200
    assert kappa_of(y_of(server), [1.0, 2.0]) == 2.0


def test_a_damaged_passport_keeps_a_server_from_starting(tmp_path):
    path = small_model(tmp_path / "act.onnx")
    passport_path(path).write_text("{}")
    server = ServerProcess(tmp_path)
    assert server.exit_code() == 2
    assert "passport" in server.text()


def test_keep_going_serves_the_models_that_load(tmp_path):
    small_model(tmp_path / "act.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    assert ServerProcess(tmp_path).exit_code() == 2
    with ServerProcess(tmp_path, "--keep-going") as server:
        assert server.infer(ROWS)[0] == 200
        assert server.infer(ROWS, "bad")[0] == 503
