"""What `apa-export --format triton` writes, and what it refuses, without a server."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from apa_exporters.cli import main
from apa_exporters.triton.check import RepositoryError, check_repository
from google.protobuf import text_format
from onnx import TensorProto, helper
from serving_models import mixing_model, small_model, write_passport
from triton_repositories import engine, exported
from tritonclient.grpc import model_config_pb2

from apa_deploy import native
from apa_deploy.serving.layout import scan
from apa_deploy.serving.model import load_model
from apa_deploy.serving.model_config import ModelConfig
from tests.runtimes.test_ort_faults import product


def _config(folder):
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def _files(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


SCRIPTS = {"start", "smoke-test", "smoke-test.json", "SHA256SUMS"}
FILES = {
    "onnxruntime": {"libapa_ort.so", "1/model.onnx", "1/model.onnx.passport.json"},
    "python": {"libapa_ort.so", "1/model.onnx", "1/model.onnx.passport.json", "1/model.py"},
    "tensorrt": {"libapa_trt.so", "libapa_trt_autoload.so", "1/model.plan", "1/model.plan.passport.json"},
}
EXPECTED = {"onnxruntime": 2, "python": 2, "tensorrt": 0}  # an engine does not run here


@pytest.mark.parametrize("backend", FILES)
def test_files(repositories, backend):
    made = {"config.pbtxt", "warmup/input0", "smoke/input0", *FILES[backend]}
    made |= {f"smoke/output{at}" for at in range(EXPECTED[backend])}
    releases = {"triton-releases"} if backend == "tensorrt" else set()
    assert _files(repositories[backend]) == SCRIPTS | releases | {f"{backend}/{name}" for name in made}


@pytest.mark.parametrize("backend", FILES)
def test_config(repositories, backend):
    config = _config(repositories[backend] / backend)
    platform = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan", "python": ""}[backend]
    assert (config.name, config.backend, config.platform) == (backend, backend, platform)
    assert config.max_batch_size == 8
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]
    assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
    assert [warm_up.batch_size for warm_up in config.model_warmup] == [1, 4, 8]
    assert [(t.name, list(t.dims)) for t in (*config.input, *config.output)] == [(n, [4]) for n in "xyg"]
    on_cpu = config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    assert on_cpu == (backend != "tensorrt")  # where there is a GPU, an engine gets it: no kind is given
    libraries = ["libapa_ort.so"] if backend == "onnxruntime" else []
    assert list(config.model_operations.op_library_filename) == libraries


_OPEN = """
import json, sys, types
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
from model import TritonPythonModel
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
config = text_format.Parse(open(sys.argv[1] + "/config.pbtxt").read(), model_config_pb2.ModelConfig())
TritonPythonModel().initialize({"model_config": json_format.MessageToJson(config, preserving_proto_field_name=True,
    always_print_fields_with_no_presence=True), "model_repository": sys.argv[1], "model_version": "1"})
"""


def test_passes_that_crash_are_left_out(tmp_path):
    """Opening such a file with them ends the process, also a server's; see runtimes/test_ort_faults.py."""
    model = onnx.shape_inference.infer_shapes(product([1, 0, 2], ["b", 5, 8]))
    onnx.save(model, tmp_path / "net.onnx")
    roots = {b: exported(tmp_path / "net.onnx", tmp_path / b, "--backend", b) for b in ("python", "onnxruntime")}
    assert _config(roots["onnxruntime"] / "net").optimization.graph.level == -1
    folder = roots["python"] / "net"
    script = [sys.executable, "-c", _OPEN, str(folder)]
    ended = subprocess.run(script, cwd=folder / "1", capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_open_lengths_are_warmed_up_at_the_size_given(tmp_path):
    ends = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in ("ids", "out")]
    graph = helper.make_graph([helper.make_node("Identity", ["ids"], ["out"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    root = exported(tmp_path / "net.onnx", tmp_path / "r", "--input-shape", "12")
    config = _config(root / "net")
    assert list(config.input[0].dims) == [-1]
    assert list(config.model_warmup[0].inputs["ids"].dims) == [12]


@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
def test_apa_serve_takes_it_as_well(repositories, backend):
    entry = scan(repositories[backend], ModelConfig())[backend]
    loaded = load_model(entry.artifacts[1], threads=1, providers=None)
    loaded.session.close()
    assert loaded.signature.max_batch == 8
    assert loaded.artifact.config.instances == 1


def test_options(act, tmp_path):
    more = ("--instances", 3, "--batch-delay-ms", 1.5, "--batch", 6, "--device", "gpu", "--name", "net")
    config = _config(exported(act, tmp_path / "r", *more) / "net")
    assert config.instance_group[0].count == 3
    assert config.dynamic_batching.max_queue_delay_microseconds == 1500
    assert list(config.dynamic_batching.preferred_batch_size) == [6]


@pytest.mark.parametrize("built", [True, False])
def test_on_a_gpu_the_operators_for_cuda(act, tmp_path, monkeypatch, built):
    """CPU operators amid a GPU's would cost copies; those for CUDA run on no CPU."""
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    if built:
        (tmp_path / "libapa_ort_cuda.so").write_bytes(b"built")
    model = exported(act, tmp_path / "r", "--device", "gpu", "--name", "net") / "net"
    config, kinds = _config(model), model_config_pb2.ModelInstanceGroup
    assert list(config.model_operations.op_library_filename) == ["libapa_ort_cuda.so"] * built
    assert (model / "libapa_ort_cuda.so").exists() == built
    assert config.instance_group[0].kind == (kinds.KIND_GPU if built else kinds.KIND_AUTO)
    server = _stand_in_server(tmp_path, 'echo "$LD_LIBRARY_PATH"')  # by which the backend finds the library
    folders = _started(model.parent, PATH=f"{server.parent}:{os.environ['PATH']}").stdout.strip().split(":")
    assert (str(model) in {folder.rstrip("/") for folder in folders}) == built


def test_labels_and_sizes_come_from_the_checkpoint(pictures):
    network = _config(pictures / "pics_network")
    assert network.output[0].label_filename == "labels.txt"
    assert (pictures / "pics_network" / "labels.txt").read_text().split() == ["ant", "bee", "cow", "dog", "eel"]
    assert list(network.input[0].dims) == [-1, -1, 3]
    assert list(network.model_warmup[0].inputs["input"].dims) == [32, 32, 3]
    steps = [step.model_name for step in _config(pictures / "pics").ensemble_scheduling.step]
    assert steps == ["pics_image", "pics_network"]


def test_a_model_whose_rows_mix_is_not_batched(tmp_path):
    config = _config(exported(mixing_model(tmp_path / "mix.onnx"), tmp_path / "r") / "mix")
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [-1, 4]


PLUGIN = [
    ("plugin", {"activation": "auto"}, True),
    ("plugin", {"activation": "plugin", "embed_plugin": True}, False),
    ("decomposed", {"activation": "auto"}, False),  # what was kept counts, not what was asked for
]


@pytest.mark.parametrize(("kept", "options", "wired"), PLUGIN)
def test_plugin(tmp_path, kept, options, wired):
    root = exported(engine(tmp_path, kept, options=options), tmp_path / "r")
    for library in ("libapa_trt.so", "libapa_trt_autoload.so"):
        assert (root / "net" / library).exists() == wired


def _other_folder(tmp_path, act):
    (tmp_path / "r" / "theirs").mkdir(parents=True)
    (tmp_path / "r" / "theirs" / "config.pbtxt").write_text("")
    return act, ["--force"], 2, "config.pbtxt, which is not ours"


def _with_a_stranger(tmp_path, act):
    exported(act, tmp_path / "r")
    (tmp_path / "r" / "notes").write_text("")
    return act, ["--force"], 2, "notes, which is not ours"


def _changed_artifact(tmp_path, act):
    path = shutil.copy(act, tmp_path / "act.onnx")
    write_passport(path)
    small_model(path, kappa=2.0)
    return path, [], 1, "sha256"


def _changed_engine(tmp_path, act):
    path = engine(tmp_path)
    path.write_bytes(path.read_bytes() + b"x")
    return path, [], 1, "sha256"


def _no_engine_passport(tmp_path, act):
    path = engine(tmp_path)
    (tmp_path / "net.engine.passport.json").unlink()
    return path, [], 2, "no passport"


def _labels(tmp_path, act):
    (tmp_path / "labels").write_text("a\nb\n")
    return act, ["--labels", tmp_path / "labels"], 2, "2 labels; wanted one for each of 4 classes"


REFUSED = [
    ("another folder", _other_folder),
    ("a stranger in the folder", _with_a_stranger),
    ("an artifact that changed", _changed_artifact),
    ("an engine that changed", _changed_engine),
    ("an engine without a passport", _no_engine_passport),
    ("an RTX engine", lambda t, a: (engine(t, format="trt-rtx"), [], 2, "format trt-rtx; wanted format trt")),
    ("batches beyond the profile", lambda t, a: (engine(t), ["--batch", "1:8:16"], 2, "profile 1:4:8")),
    ("an engine on the CPU", lambda t, a: (engine(t), ["--device", "cpu"], 2, "wanted gpu")),
    ("an engine in Python", lambda t, a: (engine(t), ["--backend", "python"], 2, "wanted tensorrt")),
    ("ONNX in TensorRT", lambda t, a: (a, ["--backend", "tensorrt"], 2, "wanted onnxruntime or python")),
    ("a checkpoint in TensorRT", lambda t, a: (t / "x.pth", ["--backend", "tensorrt"], 2, "wanted an engine")),
    ("a name", lambda t, a: (a, ["--name", "../up"], 2, "letters, digits")),
    ("labels", _labels),
    ("an ensemble without pixels", lambda t, a: (a, ["--ensemble"], 2, "Export it with --preprocess")),
    (
        "a checkpoint's option",
        lambda t, a: (a, ["--weights", "ema"], 2, "--weights with an exported file; wanted a checkpoint"),
    ),
    ("a missing file", lambda t, a: (t / "none.onnx", [], 2, "not a file")),
]


@pytest.mark.parametrize("make", [case[1] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refused_and_nothing_written(act, tmp_path, capsys, make):
    source, options, code, text = make(tmp_path, act)
    before = _files(tmp_path)
    capsys.readouterr()
    assert main([str(source), "--format", "triton", "-o", str(tmp_path / "r"), *map(str, options)]) == code
    assert text in capsys.readouterr().err
    assert _files(tmp_path) == before


def test_its_options_belong_to_it(act, tmp_path, capsys):
    assert main([str(act), "--format", "onnx", "--instances", "2", "-o", str(tmp_path / "x.onnx")]) == 2
    assert "--instances with --format onnx; wanted --format triton" in capsys.readouterr().err


def test_force_replaces_its_own(act, tmp_path, capsys):
    exported(act, tmp_path / "r", "--name", "old")
    assert main([str(act), "--format", "triton", "-o", str(tmp_path / "r")]) == 2
    capsys.readouterr()
    assert main([str(act), "--format", "triton", "-o", str(tmp_path / "r"), "--force", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["model"], said["backend"], said["max_batch"]) == ("act", "onnxruntime_onnx", 32)
    assert not (tmp_path / "r" / "old").exists()


@pytest.mark.parametrize("backend", FILES)
def test_a_missing_file_is_found_before_a_server_looks(repositories, backend, tmp_path):
    root = shutil.copytree(repositories[backend], tmp_path / "r")
    needed = ["1/model.plan" if backend == "tensorrt" else "1/model.onnx", "warmup/input0"]
    needed += {"python": ["1/model.py"], "onnxruntime": ["libapa_ort.so"], "tensorrt": []}[backend]
    for name in needed:
        path = root / backend / name
        path.rename(tmp_path / "away")
        with pytest.raises(RepositoryError, match=path.name):
            check_repository(root)
        (tmp_path / "away").rename(path)
    check_repository(root)


def test_a_step_that_does_not_fit_is_found(pictures, tmp_path):
    root = shutil.copytree(pictures, tmp_path / "r")
    shutil.rmtree(root / "pics_image")
    with pytest.raises(RepositoryError, match="step pics_image"):
        check_repository(root)


def _started(root, **environment):
    return subprocess.run(
        [str(root / "start")], env=os.environ | environment, capture_output=True, text=True, check=False
    )


def _stand_in_server(folder, does):
    server = folder / "bin" / "tritonserver"
    server.parent.mkdir()
    server.write_text(f"#!/bin/sh\n{does}\n")
    server.chmod(0o755)
    return server


def test_start_looks_at_the_files_first(repositories, tmp_path):
    root = shutil.copytree(repositories["python"], tmp_path / "r")
    missing = _started(root, PATH="/usr/bin:/bin")
    assert missing.returncode == 3
    assert "no tritonserver in PATH" in missing.stderr
    (root / "python" / "1" / "model.py").write_text("import os")
    changed = _started(root)
    assert changed.returncode == 1
    assert "differ from SHA256SUMS" in changed.stderr


# of the passport, libnvinfer of the image -> exit code, what is said, whether host code is allowed
IMAGES = [
    ("the same TensorRT", "10.13.3.9", {}, "10.13.3", 0, "", False),
    ("another one", "10.13.3.9", {}, "10.14.1", 1, "tritonserver:25.09 25.10, or build it again", False),
    ("an older one", "10.14.1.48", {"version_compatible": True}, "10.13.3", 1, "has 10.13.3", False),
    ("a later one, version-compatible", "10.13.3.9", {"version_compatible": True}, "10.14.1", 0, "", True),
    ("its plugin inside", "10.13.3.9", {"embed_plugin": True}, "10.13.3", 0, "", True),
    ("a later one, its plugin inside", "10.13.3.9", {"embed_plugin": True}, "10.14.1", 0, "", True),
    ("an older one, its plugin inside", "10.14.1.48", {"embed_plugin": True}, "10.13.3", 1, "has 10.13.3", False),
    (
        "nothing inside after all",
        "10.13.3.9",
        {"embed_plugin": True, "kept": "aot"},
        "10.14.1",
        1,
        "has 10.14.1",
        False,
    ),
    ("one of no known release", "11.3.0.1", {}, "10.14.1", 1, "the release with TensorRT 11.3.0", False),
]


@pytest.mark.parametrize(("built", "options", "here", "code", "said", "hosted"), [i[1:] for i in IMAGES])
def test_start_compares_tensorrt(built, options, here, code, said, hosted, tmp_path):
    versions = {"tensorrt": built, "python": "3.12"}
    kept = options.get("kept", "plugin" if "embed_plugin" in options else "decomposed")
    root = exported(engine(tmp_path, kept, options=options, versions=versions), tmp_path / "r")
    server, library = _stand_in_server(tmp_path, 'echo "$@"'), tmp_path / f"libnvinfer.so.{here}"
    library.touch()
    done = _started(root, PATH=f"{server.parent}:{os.environ['PATH']}", APA_NVINFER=str(library))
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert ("--backend-config=tensorrt,version-compatible=true" in done.stdout) == hosted


def test_smoke_test_without_a_server(repositories):
    command = [str(repositories["python"] / "smoke-test"), "127.0.0.1:9"]  # nothing listens on discard
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "./start" in done.stderr


def test_the_smoke_test_holds_the_truth(repositories):
    folder = repositories["onnxruntime"] / "onnxruntime" / "smoke"
    x, y = (np.frombuffer((folder / name).read_bytes(), np.float32) for name in ("input0", "output0"))
    wanted = x * (1 + 0.5 * np.exp(-x.astype(np.float64))) ** -2
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1.2e-6)  # serving_models.TOLERANCE


@pytest.mark.parametrize(("given", "do"), [([], "--name MODEL"), (["--name", "a/b"], "Choose another")])
def test_a_name_that_no_server_takes_is_refused_before_the_checkpoint_is_read(given, do, tmp_path, capsys):
    (tmp_path / "my net.pth").write_bytes(b"")
    arguments = [str(tmp_path / "my net.pth"), "--format", "triton", "-o", str(tmp_path / "out"), *given]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert f"my net.pth: the name '{given[1] if given else 'my net'}'; wanted letters" in said and do in said
    assert not (tmp_path / "out").exists()
