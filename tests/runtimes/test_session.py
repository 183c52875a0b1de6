"""apa_deploy.Session on ONNX Runtime."""

import platform
import subprocess
import sys
import threading

import canonical_models as models
import numpy as np
import onnx
import pytest
from onnx import helper

import apa_deploy
from apa_deploy.errors import InputError
from apa_deploy.maths import Parameters
from apa_deploy.native import LibraryError
from apa_deploy.runtimes import onnxruntime as runner

PARAMETERS = Parameters((0.5,), (1.2,))


pytestmark = pytest.mark.usefixtures("library")


@pytest.fixture
def path(tmp_path):
    return models.saved(models.one_node(PARAMETERS), tmp_path)


def test_runs_and_names(path):
    x = np.linspace(-6, 6, 1001, dtype=np.float32)
    with apa_deploy.Session(path, threads=1) as session:
        assert (session.input_names, session.output_names) == (("x",), ("y",))
        y = session.run({"x": x})["y"]
    # float32: 2e-7 of max(1, |y|) is the kernel's bound, and |y| <= 6
    assert np.abs(y - models.truth("AGLU", x, 0.5, 1.2)).max() <= 6 * 2e-7


@pytest.mark.parametrize("given", [{}, {"z": np.zeros(3, np.float32)}])
def test_names_the_inputs_it_wants(path, given):
    with apa_deploy.Session(path) as session, pytest.raises(InputError, match="wanted x"):
        session.run(given)


def test_refuses_a_wrong_dtype(path):
    with apa_deploy.Session(path) as session, pytest.raises(InputError, match="float"):
        session.run({"x": np.zeros(3, np.int64)})


X = np.linspace(-6, 6, 12, dtype=np.float32)
READ_AS_THEY_ARE = {
    "reversed": X[::-1],
    "every other": np.repeat(X, 2)[::2],
    "unaligned": np.frombuffer(b"\0" + X.tobytes(), np.float32, offset=1),
    "read-only": np.broadcast_to(np.float32(1), (12,)),
}
REFUSED = {
    "other byte order": (X.astype(X.dtype.newbyteorder()), "other byte order"),
    "double": (X.astype(np.float64), "float64"),
    "rank": (X[None], r"shape \(1, 12\)"),
    "masked": (np.ma.masked_array(X, X < 0), "masked"),
    "ragged": ([[1.0], [1.0, 2.0]], "wanted an array"),
}


@pytest.mark.parametrize("given", READ_AS_THEY_ARE.values(), ids=READ_AS_THEY_ARE)
def test_reads_arrays_however_they_lie(path, given):
    with apa_deploy.Session(path) as session:
        y = session.run({"x": given})["y"]
    assert np.abs(y - models.truth("AGLU", np.array(given), 0.5, 1.2)).max() <= 6 * 2e-7


@pytest.mark.parametrize(("given", "said"), REFUSED.values(), ids=REFUSED)
def test_refuses_what_it_would_read_wrong(path, given, said):
    with apa_deploy.Session(path) as session, pytest.raises(InputError, match=said):
        session.run({"x": given})


def test_wants_names(path):
    with apa_deploy.Session(path) as session, pytest.raises(InputError, match="inputs as a list"):
        session.run([X])


def test_closed_session_says_so(path):
    session = apa_deploy.Session(path)
    session.close()
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.run({"x": np.zeros(3, np.float32)})


@pytest.mark.parametrize("name", ["none.onnx", "model.engine"])
def test_refuses_what_it_cannot_open(tmp_path, name):
    if name == "model.engine":
        (tmp_path / name).write_bytes(b"engine")
    with pytest.raises(InputError):
        apa_deploy.Session(tmp_path / name)


def test_unloadable_file_is_bad_input(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"bad\.onnx"):
        apa_deploy.Session(tmp_path / "bad.onnx")


def test_threads_share_a_session(path):
    wanted = models.truth("AGLU", np.linspace(-4, 4, 70000, dtype=np.float32), 0.5, 1.2)
    wrong = []

    def work(session, x):
        for _ in range(20):
            if np.abs(session.run({"x": x})["y"] - wanted).max() > 1e-6:
                wrong.append(1)

    with apa_deploy.Session(path, threads=2) as session:
        x = np.linspace(-4, 4, 70000, dtype=np.float32)
        threads = [threading.Thread(target=work, args=(session, x)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.fixture
def with_body(tmp_path):
    """The model with a function in it, deliberately Neg: its output says that the function has run."""
    model = models.one_node(PARAMETERS)
    names = [attribute.name for attribute in model.graph.node[0].attribute]
    body, domains = [helper.make_node("Neg", ["x"], ["y"])], [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("com.apa", "AGLU", ["x"], ["y"], body, domains, names))
    runner._fall_back.cache_clear()
    yield models.saved(model, tmp_path)
    runner._fall_back.cache_clear()


@pytest.mark.parametrize(("built", "says"), [(False, "is not there"), (True, "file too short")])
def test_without_a_library_that_loads_it_says_so_once_and_runs(
    with_body, tmp_path, monkeypatch, capsys, built, says
):
    monkeypatch.setattr("apa_deploy.native.FOLDER", tmp_path)
    if built:
        (tmp_path / "libapa_ort.so").write_text("no library")
    for _ in range(2):
        with apa_deploy.Session(with_body) as session:
            assert session.run({"x": np.float32([1, 2])})["y"].tolist() == [-1, -2]
    said = capsys.readouterr().err
    assert said.count("function bodies run instead") == 1 and says in said


def test_without_library_and_body_it_says_what_to_do(path, tmp_path, monkeypatch):
    monkeypatch.setattr("apa_deploy.native.FOLDER", tmp_path / "empty")
    with pytest.raises(InputError, match=r"libapa_ort\.so"):
        apa_deploy.Session(path)


def test_missing_library_exits_3(tmp_path, monkeypatch):
    monkeypatch.setattr("apa_deploy.native.FOLDER", tmp_path)
    with pytest.raises(LibraryError, match="pip install") as caught:
        apa_deploy.ort_library()
    assert caught.value.exit_code == 3


FLUSHED = """
import sys, numpy as np, apa_deploy
path, flush = sys.argv[1], sys.argv[2] == "True"
with apa_deploy.Session(path, threads=1, flush_subnormals=flush) as session:
    (y,) = session.run({"x": np.full(4, 1.5e-38, np.float32)}).values()
print((y == 0).all(), np.float64(2e-308) * np.float64(0.5) == 0)
"""


@pytest.mark.parametrize("flush", [False, True])
def test_subnormal_numbers_count_as_zero_where_asked(tmp_path, flush):
    """Of ONNX Runtime's own operators too, and of the process that asked: NumPy's as well."""
    body = "h = Constant <value_float = 0.5> () y = Mul (x, h)"
    model = f'<ir_version: 8, opset_import: ["": 18]> g (float[4] x) => (float[4] y) {{ {body} }}'
    path = models.saved(onnx.parser.parse_model(model), tmp_path)
    done = subprocess.run([sys.executable, "-c", FLUSHED, path, str(flush)], capture_output=True, text=True)
    assert done.stdout.split() == [str(flush)] * 2, done.stderr


LATE = """
import sys, threading, apa_deploy
apa_deploy.Session(sys.argv[1])
apa_deploy.Session(sys.argv[1], flush_subnormals=True)
"""
OLDER_THREAD = """
import sys, threading, apa_deploy
opened = threading.Event()
def open_late():
    opened.wait()
    try:
        apa_deploy.Session(sys.argv[1], flush_subnormals=True)
    except Exception as error:
        print(error, file=sys.stderr)
thread = threading.Thread(target=open_late)
thread.start()
apa_deploy.Session(sys.argv[1], flush_subnormals=True)
opened.set()
thread.join()
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="ONNX Runtime does it on x86 alone")
@pytest.mark.parametrize("script", [LATE, OLDER_THREAD], ids=["late", "older thread"])
def test_subnormal_numbers_are_not_left_to_the_thread(path, script):
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert "Open this session first" in done.stderr
