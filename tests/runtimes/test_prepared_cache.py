"""The cache of prepared models: keyed by what they depend on, private, mended, safe for many, never in the way."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from blocked_networks import CHANNELS
from onnx import TensorProto, helper, numpy_helper

import apa_deploy
from apa_deploy.graph.values import external_files
from apa_deploy.runtimes import blocking, cache, prepared

X = {"x": np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)}


@pytest.fixture(scope="module", autouse=True)
def _blocks(library):
    if not blocking.blocking().kept:
        pytest.skip("ONNX Runtime has no blocked layout here, or leaves it")


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The cache folder of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("APA_LAYOUT", raising=False)
    prepared._notice.cache_clear()
    return tmp_path / "cache/apa-deploy/prepared"


def _model(path, seed=0, external=False):
    """Convolution, unit, convolution, by hand: quick to make."""
    rng = np.random.default_rng(seed)
    shapes = (CHANNELS, 3, 3, 3), (4, CHANNELS, 3, 3)
    weights = [
        numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), f"w{i}") for i, s in enumerate(shapes)
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"]),
        helper.make_node("AGLU", ["a"], ["b"], domain="com.apa", kappa=[1.0], **{"lambda": [0.5]}),
        helper.make_node("Conv", ["b", "w1"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", c, "h", "w"]) for n, c in (("x", 3), ("y", 4))
    ]
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=domains, ir_version=8)
    onnx.save_model(model, path, save_as_external_data=external, location="weights", size_threshold=0)
    return path


@pytest.fixture
def path(tmp_path):
    return _model(tmp_path / "model.onnx")


def _opened(path, **options):
    """The prepared file of a session, and what the session answers."""
    with apa_deploy.Session(path, threads=1, **options) as session:
        return session.prepared, session.run(X)["y"]


def test_made_once_and_private(path, store):
    first, y = _opened(path)
    made = first.stat().st_ino
    second, again = _opened(path)
    assert first == second and second.stat().st_ino == made and np.array_equal(y, again)
    assert store.stat().st_mode & 0o777 == 0o700 and first.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in store.iterdir()] == [first.name]  # nothing of the work is left


def test_a_folder_open_to_others_is_closed(path, store):
    store.mkdir(parents=True, mode=0o755)
    assert _opened(path)[0] and store.stat().st_mode & 0o777 == 0o700


DEPENDS = ["model", "weights", "runtime", "block", "library"]


@pytest.mark.parametrize("what", DEPENDS)
def test_every_dependency_is_in_the_key(tmp_path, store, monkeypatch, what):
    path = _model(tmp_path / "model.onnx", external=True)
    before = prepared._key(path, onnx.load(path, load_external_data=False))
    if what == "model":
        onnx.save(helper.make_model(helper.make_graph([], "", [], [])), path)
    elif what == "weights":
        _model(tmp_path / "model.onnx", seed=1, external=True)
    elif what == "runtime":
        monkeypatch.setattr(prepared.ort, "__version__", "0.0")
    elif what == "block":
        monkeypatch.setattr(prepared, "blocking", lambda: blocking.Blocking(4, True))
    else:
        (tmp_path / "library.so").write_bytes(b"another build")
        monkeypatch.setattr(prepared, "ort_library", lambda: tmp_path / "library.so")
    model = onnx.load(path, load_external_data=False) if what != "model" else onnx.ModelProto()
    assert prepared._key(path, model) != before


def test_weights_beside_the_file(tmp_path, store):
    inside, outside = _opened(_model(tmp_path / "a.onnx"))[1], _opened(_model(tmp_path / "b.onnx", external=True))
    assert outside[0] and np.array_equal(inside, outside[1])


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_damaged_entry_is_made_again(path, store, damage):
    entry, y = _opened(path)
    whole = entry.read_bytes()
    spoilt = bytes([*whole[:-1], whole[-1] ^ 1])
    entry.write_bytes({"flipped": spoilt, "truncated": whole[:100], "empty": b""}[damage])
    again, answer = _opened(path)
    assert np.array_equal(answer, y) and cache.sha256(again) == again.name.split(".")[1]
    assert len(list(store.iterdir())) == 1


PLANTED = [
    "another user's",
    "open to others",
    "a second name of a file",
    "a link",
    "a folder",
    "a pipe",
    "a device",
]


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_entry_is_not_used(path, store, tmp_path, what):
    """Named as an entry should be, hash included; the folder itself is in order."""
    entry, y = _opened(path)
    planted = (_model(tmp_path / "other.onnx", seed=9)).read_bytes()
    name = store / f"{entry.name.split('.')[0]}.{hashlib.sha256(planted).hexdigest()}.onnx"
    entry.unlink()
    if what == "a link":
        (tmp_path / "elsewhere").write_bytes(planted)
        name.symlink_to(tmp_path / "elsewhere")
    elif what == "a device":
        name.symlink_to("/dev/zero")
    elif what == "a folder":
        name.mkdir()
    elif what == "a pipe":
        os.mkfifo(name)
    else:
        name.write_bytes(planted)
        name.chmod(0o666 if what == "open to others" else 0o600)
    if what == "another user's":
        if os.geteuid():
            pytest.skip("only root can give a file away")
        os.chown(name, 12345, 12345)
    if what == "a second name of a file":
        os.link(name, tmp_path / "first name")
    again, answer = _opened(path)
    assert np.array_equal(answer, y) and [p.name for p in store.iterdir()] == [again.name] == [entry.name]


def test_a_folder_that_was_open_to_others_is_emptied(path, store, tmp_path):
    entry, y = _opened(path)
    planted = (_model(tmp_path / "other.onnx", seed=9)).read_bytes()
    name = store / f"{entry.name.split('.')[0]}.{hashlib.sha256(planted).hexdigest()}.onnx"
    entry.unlink()
    name.write_bytes(planted)
    name.chmod(0o600)
    store.chmod(0o777)
    assert np.array_equal(_opened(path)[1], y) and not name.exists() and store.stat().st_mode & 0o777 == 0o700


def test_rests_of_a_killed_process_are_removed(path, store):
    (store / "making-rest").mkdir(parents=True)
    store.chmod(0o700)
    (store / "making-rest/placeholders.onnx").touch()
    with cache.workplace() as busy:
        assert not (store / "making-rest").exists()
        entry, _ = _opened(path)
        assert busy.exists() and entry.exists()


@pytest.mark.parametrize("where", ["a Constant", "a branch"])
def test_weights_of_any_part_of_the_graph_are_in_the_key(tmp_path, store, where):
    """What lies beside the file is used: the answer follows when it changes."""
    model = onnx.load(_model(tmp_path / "model.onnx"))
    outside = TensorProto(name="s", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="scale")
    model.graph.node[-1].output[0] = "unscaled"
    if where == "a Constant":
        model.graph.node.append(helper.make_node("Constant", [], ["scale"], value=outside))
    else:
        branches = {}
        for name in ("then_branch", "else_branch"):
            ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])]
            weight = TensorProto()
            weight.CopyFrom(outside)
            weight.name = f"{name}/s"
            same = helper.make_node("Identity", [weight.name], [name])
            branches[name] = helper.make_graph([same], name, [], ends, [weight])
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        model.graph.node.append(helper.make_node("If", ["yes"], ["scale"], **branches))
    model.graph.node.append(helper.make_node("Mul", ["unscaled", "scale"], ["y"]))
    onnx.save(model, tmp_path / "model.onnx")
    assert external_files(model) == ["scale"]
    answers = []
    for scale in (1, 100):
        (tmp_path / "scale").write_bytes(np.float32(scale).tobytes())
        answers.append(_opened(tmp_path / "model.onnx")[1])
    np.testing.assert_allclose(answers[1], 100 * answers[0], rtol=1e-5)  # two roundings of float32


def test_many_processes_at_once(path, store):
    code = (
        "import sys, numpy as np, apa_deploy\n"
        "s = apa_deploy.Session(sys.argv[1], threads=1)\n"
        "x = np.load(sys.argv[2])\n"
        "print(s.prepared is not None, float(s.run({'x': x})['y'].sum()))"
    )
    np.save(path.with_suffix(".npy"), X["x"])
    command = [sys.executable, "-c", code, str(path), str(path.with_suffix(".npy"))]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    said = {process.communicate() for process in running}
    assert len(said) == 1 and next(iter(said))[0].startswith(b"True") and next(iter(said))[1] == b"", said
    assert all(cache.sha256(entry) == entry.name.split(".")[1] for entry in store.iterdir())


def test_what_nobody_uses_is_removed(path, store):
    old, _ = _opened(path)
    os.utime(old, (0, 0))
    _opened(_model(path.with_name("other.onnx"), seed=1))
    assert not old.exists()


@pytest.mark.parametrize(("argument", "variable"), [(False, None), (None, "0")])
def test_opting_out(path, store, monkeypatch, argument, variable):
    if variable:
        monkeypatch.setenv("APA_LAYOUT", variable)
    assert _opened(path, layout=argument)[0] is None and not store.exists()


def test_the_argument_outranks_the_variable(path, store, monkeypatch):
    monkeypatch.setenv("APA_LAYOUT", "0")
    assert _opened(path, layout=True)[0]


def _swap_without_the_unit(model, plan, block):
    count = swap(model, plan, block)
    for node in model.graph.node:
        if node.op_type == "AGLU":
            node.op_type = "APA"
    return count


swap = prepared.swap_placeholders
BLOCKED = [
    # what stands in the way, what is replaced by what, what is said
    ("old runtime", "blocking", lambda: blocking.Blocking(8, False), "leaves its blocked layout at activations"),
    ("wrong outputs", "swap_placeholders", _swap_without_the_unit, "outputs differ"),
    ("too large", "_LARGEST", 10, "more than 2 GB"),
]


@pytest.mark.parametrize(("name", "instead", "says"), [b[1:] for b in BLOCKED], ids=[b[0] for b in BLOCKED])
def test_falls_back_and_says_so_once(path, store, monkeypatch, capsys, name, instead, says):
    monkeypatch.setattr(prepared, name, instead)
    wanted = _opened(path, layout=False)[1]
    for _ in range(2):
        entry, y = _opened(path)
        assert entry is None and np.array_equal(y, wanted)
    said = capsys.readouterr().err
    assert said.count("runs in the plain layout") == 1 and says in said
    assert list(store.iterdir()) == []


def test_without_a_blocked_layout_it_is_silent(path, store, monkeypatch, capsys):
    monkeypatch.setattr(prepared, "blocking", lambda: blocking.Blocking(1, False))
    assert _opened(path)[0] is None and capsys.readouterr().err == ""


@pytest.mark.parametrize("what", ["file", "link"])
def test_a_cache_that_cannot_be_trusted_is_not_used(path, store, tmp_path, capsys, what):
    store.parent.mkdir(parents=True)
    if what == "file":
        store.write_text("in the way")
    else:
        (tmp_path / "elsewhere").mkdir()
        store.symlink_to(tmp_path / "elsewhere")
    assert _opened(path)[0] is None
    assert str(store) in capsys.readouterr().err


def test_an_optimiser_that_fails_is_no_failure(path, store, monkeypatch, capsys):
    def fails(*_):
        raise RuntimeError("planted")

    monkeypatch.setattr(prepared, "optimise_to", fails)
    assert _opened(path)[0] is None and "planted" in capsys.readouterr().err
