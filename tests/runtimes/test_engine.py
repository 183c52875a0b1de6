"""apa_deploy.Session on TensorRT engines: trust anywhere; the rest on a stand-in for a GPU (tests/standin)."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import apa_deploy
from apa_deploy.errors import InputError, MissingError
from apa_deploy.native import LibraryError, trt_plugin_library
from apa_deploy.runtimes.cuda_driver import device_count
from apa_deploy.runtimes.engine_trust import Trust, UntrustedEngineError, read_trusted_engine
from tests.standin.engines import passport_for, standing_in
from tests.standin.machine import MAJORS

no_gpu = pytest.mark.skipif(device_count() > 0, reason="a real GPU would answer in the stand-in's place")
HERE = Path(__file__).parent
CONTENT = b"an engine"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "m.engine"
    path.write_bytes(CONTENT)
    return path


OTHER = "0" * 64
TRUSTED = [
    ("its passport knows it", SHA256, Trust()),
    ("the user trusts it", None, Trust(engine=True)),
    ("the user trusts it, whatever its passport says", OTHER, Trust(engine=True)),
    ("the user gives its hash", None, Trust(sha256=SHA256)),
    ("the user gives its hash, in capitals", OTHER, Trust(sha256=SHA256.upper())),
]
UNTRUSTED = [
    ("no passport", None, Trust(), "no passport m.engine.passport.json"),
    ("of another file", OTHER, Trust(), "not the file that its passport describes"),
    ("another hash given", SHA256, Trust(sha256=OTHER), "not the hash that was given"),
    ("another hash given, and trust", SHA256, Trust(engine=True, sha256=OTHER), "not the hash that was given"),
]


@pytest.mark.parametrize(("recorded", "trust"), [c[1:] for c in TRUSTED], ids=[c[0] for c in TRUSTED])
def test_trusted(recorded, trust, engine):
    if recorded:
        passport_for(engine, recorded)
    assert read_trusted_engine(engine, trust).content == CONTENT


@pytest.mark.parametrize(("recorded", "trust", "saw"), [c[1:] for c in UNTRUSTED], ids=[c[0] for c in UNTRUSTED])
def test_untrusted(recorded, trust, saw, engine):
    if recorded:
        passport_for(engine, recorded)
    with pytest.raises(UntrustedEngineError, match=saw) as caught:
        apa_deploy.Session(engine, trust_engine=trust.engine, sha256=trust.sha256)
    assert caught.value.exit_code == 2
    assert caught.value.sha256 == SHA256
    assert "--trust-engine" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"outputs": []}', '{"outputs": [{"name": "m.engine"}]}'])
def test_passport_that_says_nothing_trusts_nothing(text, engine):
    engine.with_name("m.engine.passport.json").write_text(text)
    with pytest.raises(UntrustedEngineError):
        read_trusted_engine(engine, Trust())


@no_gpu
def test_without_a_gpu_or_tensorrt(engine, monkeypatch):
    passport_for(engine)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingError, match=r"apa-deploy\[gpu\]"):
        apa_deploy.Session(engine)
    pytest.importorskip("tensorrt_rtx")
    passport_for(engine, format="trt-rtx")
    with pytest.raises(MissingError, match="the NVIDIA driver"):
        apa_deploy.Session(engine)


def test_no_context_at_all(engine):
    with pytest.raises(InputError, match="contexts=0"):
        apa_deploy.Session(engine, trust_engine=True, contexts=0)


def session_of(engine, machine, code, major=10, **variables):
    """Run code, or a file, where the stand-in is."""
    known = machine.variables(major, **variables)
    known["PYTHONPATH"] += f"{os.pathsep}{Path(apa_deploy.__file__).parents[1]}"
    command = [sys.executable, *([code] if str(code).endswith(".py") else ["-c", code]), str(engine)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | known)


@pytest.fixture(scope="module", params=MAJORS)
def seen(request, machine, tmp_path_factory):
    pytest.importorskip("cuda.bindings")
    path = tmp_path_factory.mktemp("engine") / "m.engine"
    path.write_bytes(standing_in())
    passport_for(path)
    done = session_of(path, machine, HERE / "engine_child.py", request.param)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# float32, and ONNX Runtime's own Exp and Log in the function body: 6 * 2e-6
LIMIT = 1.2e-5


@no_gpu
def test_graph_is_recorded_at_the_second_run_of_a_shape(seen):
    assert seen["names"] == [["x"], ["y"]]
    growing = [[4, 0], [4, 0], [4, 1], [2, 1], [2, 1], [32, 1], [32, 1], [4, 1]]  # 32 rows end what was recorded
    assert seen["graphs"]["seen"] == [*growing, [32, 2], [4, 3], [32, 4]]
    assert seen["graphs"]["error"] < LIMIT
    assert seen["graphs"]["left"] == 0
    assert seen["graphs"]["pageable"] == 0  # every copy is from and into page-locked memory


@no_gpu
def test_without_graphs(seen):
    assert {launches for _, launches in seen["plain"]["seen"]} == {0}
    assert seen["plain"]["error"] < LIMIT


@no_gpu
def test_contexts_have_memory_of_their_own(seen):
    assert seen["several"]["error"] < LIMIT
    assert seen["several"]["held"] == 8  # an input and an output each, on either side
    assert seen["several"]["left"] == 0


REFUSALS = [
    ("beyond the profile", "2 x of shape (33, 4); wanted a shape within the engine's profile, (1, 4) to (32, 4)"),
    ("double", "2 x of type float64"),
    ("rank", "2 x of type float32 and shape (4,)"),
    ("no memory", "3 cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY"),
    ("after all", "True"),
    ("after no memory", "True"),
]


@no_gpu
@pytest.mark.parametrize(("case", "said"), REFUSALS)
def test_refusals_leave_the_session_usable(case, said, seen):
    assert seen["refused"][case].startswith(said)


ONE_RUN = """
import sys, numpy as np
from apa_deploy.runtimes.session import Session
with Session(sys.argv[1]) as session:
    for _ in range(3):
        print(session.run({"x": np.ones((1, 4), np.float32)})["y"].shape)
"""
PLUGINS = [
    ("decomposed", {}, {"build": {"plugin": None}}, []),
    ("plugin", {}, {"build": {"plugin": {"name": "libapa_trt.so"}}}, ["load"]),
    ("plugin embedded", {"embedded": True}, {"build": {"plugin": {}}, "options": {"embed_plugin": True}}, []),
    ("plugin, and no word of it", {}, {}, ["load"]),
]


@no_gpu
@pytest.mark.parametrize(("kind", "facts", "fields", "loads"), PLUGINS, ids=[c[0] for c in PLUGINS])
def test_plugin_is_loaded_where_it_is_needed(kind, facts, fields, loads, machine, tmp_path):
    try:
        library = str(trt_plugin_library())
    except LibraryError as error:
        pytest.skip(str(error))
    path = tmp_path / "m.engine"
    path.write_bytes(standing_in(kind.split()[0].strip(","), **facts))
    passport_for(path, **fields)
    done = session_of(path, machine, ONE_RUN, STANDIN_CALLS=str(tmp_path / "calls"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(1, 4)\n" * 3
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert [given for name, *given in calls if name == "IPluginRegistry.load_library"] == [[library]] * len(loads)


LOADING = [
    ("no engine", b"not an engine", "Magic tag does not match"),
    ("stripped", standing_in(stripped=True), "no execution context"),
]


@no_gpu
@pytest.mark.parametrize(("content", "saw"), [c[1:] for c in LOADING], ids=[c[0] for c in LOADING])
def test_engine_that_does_not_load(content, saw, machine, tmp_path):
    path = tmp_path / "m.engine"
    path.write_bytes(content)
    passport_for(path)
    done = session_of(path, machine, ONE_RUN)
    assert done.returncode == 1
    assert saw in done.stderr.splitlines()[-1]


@no_gpu
def test_an_output_whose_size_follows_from_the_data_is_refused_by_name(machine, tmp_path):
    path = tmp_path / "m.engine"
    path.write_bytes(standing_in(nonzero=True))
    passport_for(path)
    done = session_of(path, machine, ONE_RUN)
    assert done.returncode == 1 and done.stdout == ""
    assert "z: its shape follows from the data (NonMaxSuppression, NonZero)" in done.stderr.splitlines()[-1]


@no_gpu
def test_an_engine_of_several_profiles_runs_in_its_first(machine, tmp_path):
    """A context starts with it; sizes of the others are refused by the largest that it has."""
    path = tmp_path / "m.engine"
    profiles = [{"x": [[1, 4], [8, 4], [32, 4]]}, {"x": [[64, 4], [64, 4], [128, 4]]}]
    path.write_bytes(standing_in(profiles=profiles))
    passport_for(path)
    done = session_of(path, machine, ONE_RUN)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(1, 4)\n" * 3
    done = session_of(path, machine, ONE_RUN.replace("(1, 4)", "(64, 4)"))
    assert done.returncode == 1 and "64" in done.stderr.splitlines()[-1] and "32" in done.stderr.splitlines()[-1]


@no_gpu
@pytest.mark.parametrize("lack", ["STANDIN_NO_PINNED", "STANDIN_NO_CAPTURE"], ids=["page-locked memory", "graphs"])
def test_an_engine_runs_without(lack, machine, tmp_path):
    path = tmp_path / "m.engine"
    path.write_bytes(standing_in())
    passport_for(path)
    done = session_of(path, machine, ONE_RUN, **{lack: "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(1, 4)\n" * 3
