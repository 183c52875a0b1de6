"""`apa-doctor` on real files: ONNX models, engines, passports, damaged ones; and beside a stand-in driver."""

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from apa_exporters.onnx.export import OnnxOptions, export_onnx
from onnx import helper, numpy_helper

from apa_deploy import native
from apa_deploy.cli.doctor import main
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import DOMAIN, make_node
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.maths import Parameters
from apa_deploy.network import Metadata
from apa_deploy.records.passport import EngineBuild, FileRecord, Passport, dump, file_record, now, passport_path
from apa_deploy.runtimes.cuda_driver import Gpu, device_count
from apa_deploy.runtimes.providers import CPU, CUDA
from apa_deploy.tensors.signature import image_signature
from tests.networks import tiny_net

NO_GPU = pytest.mark.skipif(device_count() > 0, reason="this machine has a GPU")


@pytest.fixture
def doctor(capsys):
    """Run it; the exit code, the JSON document and the findings by topic."""

    def run(*arguments):
        code = main([*map(str, arguments), "--json"])
        text = capsys.readouterr().out
        document = json.loads(text) if text else {}
        return code, document, {f["topic"]: f for f in document["findings"]} if "findings" in document else {}

    return run


def _model(path, node, functions=False, domains=(("", 18), (DOMAIN, 1))):
    x, y = (helper.make_tensor_value_info(name, 1, [1, 2]) for name in "xy")
    opsets = [helper.make_opsetid(*domain) for domain in domains]
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets, ir_version=8)
    onnx.save(with_functions(model) if functions else model, path)
    return path


AGLU = make_node("AGLU", "x", "y", Parameters((0.5,), (1.0,)), "act")


def test_machine(doctor, capsys):
    code, document, findings = doctor()
    assert code == 0
    assert document["machine"]["packages"]["onnxruntime"]
    assert findings["ONNX Runtime"]["state"] == "ok"
    assert main([]) == 0
    assert "apa-doctor on" in capsys.readouterr().out


def test_an_exported_model_is_ready(doctor, tmp_path):
    out = tmp_path / "m.onnx"
    export_onnx(
        TorchNetwork(tiny_net(), image_signature((3, 8, 8)), Metadata("tiny")),
        out,
        OnnxOptions(format="onnx-custom", verify=False),
    )
    for file in (out, passport_path(out)):
        code, document, findings = doctor(file)
        assert (code, document["ready"]) == (0, True), document
        assert findings["loading"]["state"] == "ok"
        assert f"{DOMAIN} nodes (2 AGLU, 1 APA)" in findings


def test_without_our_library_a_body_runs(doctor, tmp_path, monkeypatch):
    monkeypatch.setattr(native, "FOLDER", tmp_path / "empty")
    code, _, findings = doctor(_model(tmp_path / "m.onnx", AGLU, functions=True))
    assert (code, findings["loading"]["state"]) == (0, "ok")
    note = findings[f"{DOMAIN} nodes (1 AGLU)"]
    assert (note["state"], "pip install --no-deps ." in note["do"]) == ("note", True)


def test_without_our_library_and_a_body(doctor, tmp_path, monkeypatch):
    monkeypatch.setattr(native, "FOLDER", tmp_path / "empty")
    code, document, findings = doctor(_model(tmp_path / "m.onnx", AGLU))
    assert (code, document["ready"]) == (3, False)
    assert findings[f"{DOMAIN} nodes (1 AGLU)"]["state"] == "missing"
    assert "is not a registered function/op" in findings["loading"]["here"]
    assert "register_custom_ops_library" in findings["loading"]["do"]


def test_bodies_that_constant_folding_broke(doctor, tmp_path):
    graphsurgeon = pytest.importorskip("onnx_graphsurgeon")
    file = _model(tmp_path / "m.onnx", AGLU, functions=True)
    assert doctor(file)[2]["function bodies"]["state"] == "ok"
    folded = graphsurgeon.import_onnx(onnx.load(file)).fold_constants().cleanup().toposort()
    onnx.save(graphsurgeon.export_onnx(folded), file)
    code, _, findings = doctor(file)
    assert (code, findings["function bodies"]["state"]) == (0, "note")
    assert "with_functions" in findings["function bodies"]["do"]


def test_a_foreign_domain(doctor, tmp_path):
    node = helper.make_node("Focus", ["x"], ["y"], domain="acme")
    code, _, findings = doctor(_model(tmp_path / "m.onnx", node, domains=(("", 18), ("acme", 1))))
    assert (code, findings["domain"]["wanted"]) == (3, "acme")


def test_nodes_that_tensorrt_s_parser_would_pass_over(doctor, tmp_path):
    bare = helper.make_node("AGLU", ["x"], ["y"], "old", domain=DOMAIN, **{"lambda": [0.5], "kappa": [1.0]})
    path = _model(tmp_path / "m.onnx", bare, functions=True)  # which writes out every attribute
    model = onnx.load(path)
    model.graph.node[0].CopyFrom(bare)
    onnx.save(model, path)
    code, _, findings = doctor(path)
    assert findings["nodes for TensorRT"]["state"] == "note"
    assert "'old'" in findings["nodes for TensorRT"]["here"]
    assert code == 0


@pytest.fixture
def external(tmp_path):
    """A model whose weights lie in w.bin."""
    weights = numpy_helper.from_array(numpy_helper.to_array(helper.make_tensor("w", 1, [512], [1.0] * 512)), "w")
    x, y = (helper.make_tensor_value_info(name, 1, [512]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return tmp_path


def test_external_data(doctor, external):
    assert doctor(external / "m.onnx")[0] == 0
    (external / "w.bin").write_bytes(b"short")
    code, _, findings = doctor(external / "m.onnx")
    assert (code, findings["external data"]["here"]) == (3, "5 bytes")
    (external / "w.bin").unlink()
    code, _, findings = doctor(external / "m.onnx")
    assert (code, findings["external data"]["here"]) == (3, "not there")
    assert "loading" not in findings


def test_external_data_outside_the_folder_is_not_followed(doctor, external):
    model = onnx.load(external / "m.onnx", load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../w.bin"
    onnx.save(model, external / "evil.onnx")
    code, _, findings = doctor(external / "evil.onnx")
    assert (code, findings["external data"]["do"]) == (3, "Do not trust this model.")


@NO_GPU
def test_engine(doctor, engines):
    code, document, findings = doctor(engines.path("SM86"))
    assert (code, document["kind"], document["ready"]) == (3, "engine", False)
    assert findings["runtime"]["state"] == "ok"
    assert findings["runtime"]["wanted"] == f"TensorRT for RTX {engines.version}"
    assert findings["GPU"]["state"] == "missing"
    assert findings["compute capability"]["wanted"] == "8.6"
    assert findings["passport"]["state"] == "note"


@NO_GPU
def test_engine_of_tensorrt(doctor, tmp_path):
    """No TensorRT is here to write one: a header, as trtexec reads it, and nothing behind."""
    file = tmp_path / "x.engine"
    file.write_bytes(b"ftrt" + bytes(20) + bytes([10, 14, 1, 48]) + bytes(100))
    build = EngineBuild(
        builder="tensorrt 10.14.1.48",
        model=file_record(file),
        capabilities=["8.9"],
        batches=(1, 8, 32),
        seconds=1,
        peak_memory_bytes=1,
        launches={},
        executed=True,
        note="",
        activation="plugin",
        gpu={"name": "NVIDIA L4", "capability": "8.9", "cuda": 13000},
    )
    _write_passport(file, build, activation="auto")
    code, _, findings = doctor(file)
    assert code == 3
    assert findings["runtime"]["wanted"] == "TensorRT 10.14.1.48"
    assert "apa-deploy[gpu]" in findings["runtime"]["do"]
    assert findings["compute capability"]["wanted"] == "8.9"
    assert findings["plugin"]["wanted"] == "libapa_trt.so"
    assert findings["passport"]["state"] == "ok"
    _write_passport(file, build, activation="plugin", embed_plugin=True)
    assert doctor(file)[2]["plugin"]["here"] == "inside the engine"
    library = FileRecord(name="libapa_trt.so", sha256="0" * 64, bytes=1)
    _write_passport(file, build.model_copy(update={"plugin": library}), activation="plugin", embed_plugin=True)
    assert doctor(file)[2]["runtime"]["wanted"] == "TensorRT 10.14.1.48 or later"  # version-compatible then
    _write_passport(file, build.model_copy(update={"activation": "decomposed"}), activation="auto")
    assert "plugin" not in doctor(file)[2]
    _write_passport(file, build.model_copy(update={"capabilities": ["AMPERE_PLUS"]}))
    assert doctor(file)[2]["compute capability"]["wanted"] == "8.0 and later"
    _write_passport(file, build.model_copy(update={"capabilities": ["SAME_COMPUTE_CAPABILITY"]}))
    assert doctor(file)[2]["compute capability"]["wanted"] == "8.9"


def _write_passport(file, build=None, **options):
    passport = Passport(
        created=now(),
        format="trt",
        options=options,
        architecture="tiny",
        weights="model",
        input_shape=(3, 8, 8),
        output_names=["y"],
        inputs=[],
        outputs=[file_record(file)],
        versions={},
        activations=[],
        build=build,
    )
    passport_path(file).write_text(dump(passport), encoding="utf-8")


def test_an_engine_that_its_passport_does_not_know(doctor, engines, tmp_path):
    file = Path(shutil.copy(engines.path("SM86"), tmp_path / "x.engine"))
    _write_passport(file)
    assert doctor(file)[2]["passport"]["state"] == "ok"
    shutil.copy(engines.path("SM89"), file)
    code, _, findings = doctor(file)
    assert (code, findings["passport"]["state"]) == (3, "missing")
    code, _, findings = doctor(passport_path(file))
    assert (code, findings["file of the passport"]["state"]) == (3, "missing")
    file.unlink()
    assert doctor(passport_path(file))[2]["file of the passport"]["here"] == "not there"


def test_metadata_before_an_engine(doctor, engines, tmp_path):
    text = json.dumps({"author": "Ultralytics", "stride": 32}).encode()
    file = tmp_path / "yolo.engine"
    file.write_bytes(len(text).to_bytes(4, "little") + text + engines.path("SM86").read_bytes())
    code, document, findings = doctor(file)
    assert (code, document["kind"]) == (3, "engine behind metadata")
    command = findings["engine"]["do"].removeprefix("Run: ")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert (tmp_path / "yolo.plan.engine").read_bytes() == engines.path("SM86").read_bytes()


DAMAGED = {
    "empty.onnx": (b"", "an empty file"),
    "text.onnx": (b"hello, this is no model\n", "no known kind of file"),
    "zeros.engine": (bytes(200), "no known kind of file"),
    "pointer.engine": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "weights.pth": (b"PK\x03\x04" + bytes(50), "apa-inspect"),
    "short.engine": (b"ftrt" + bytes(20), "24 bytes"),
    "other.engine": (b"ptrt" + bytes(200), "b'ptrt'"),
    "x.passport.json": (b'{"schema_version": 7}', "no passport that can be read"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_and_unknown_files(tmp_path, capsys, name):
    content, words = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    assert main([str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_a_cut_engine(engines, tmp_path, capsys):
    file = tmp_path / "cut.engine"
    file.write_bytes(engines.path("SM86").read_bytes()[:-1000])
    assert main([str(file)]) == 2
    assert "its header says" in capsys.readouterr().err


def test_no_file(capsys):
    assert main(["not-there.engine"]) == 2
    assert "No such file" in capsys.readouterr().err


def test_both_onnxruntime_packages(doctor, tmp_path, monkeypatch):
    """What pip leaves of a second package: its dist-info."""
    info = tmp_path / "onnxruntime_gpu-1.99.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.99\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, _, findings = doctor()
    assert (code, findings["ONNX Runtime"]["state"]) == (0, "note")
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in findings["ONNX Runtime"]["do"]


def test_error_text(capsys, monkeypatch):
    text = "CUDA driver version is insufficient for CUDA runtime version"
    assert main(["--error", text]) == 0
    assert "r580" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert main(["--error", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "driver too old"
    assert main(["--error", "it does not work"]) == 2
    assert main(["x.onnx", "--error", text]) == 2


class OnCuda:
    """A session as ONNX Runtime's CUDA provider makes it: where it has started, and where each node runs."""

    def __init__(self, providers, *nodes):
        self.get_providers = lambda: providers
        self.get_inputs = self.get_outputs = list
        parts = [SimpleNamespace(ep_name=p, get_nodes=lambda o=o: [SimpleNamespace(op_type=o)]) for o, p in nodes]
        self.get_provider_graph_assignment_info = lambda: parts


CUDA_SESSIONS = [
    (OnCuda([CUDA, CPU], ("AGLU", CUDA)), "ok", f"1 fused on {CUDA} (1 AGLU)"),
    (OnCuda([CUDA, CPU], ("Exp", CUDA)), "note", "1 as function body"),
    (OnCuda([CPU], ("AGLU", CPU)), "missing", f"{CUDA} did not start on this machine"),
    (
        RuntimeError("Failed to find kernel for com.apa.AGLU(1)"),
        "missing",
        "ONNX Runtime says: Failed to find kernel",
    ),
]


@pytest.mark.parametrize(("made", "state", "said"), CUDA_SESSIONS)
def test_a_model_on_cuda(doctor, tmp_path, monkeypatch, made, state, said):
    """As onnxruntime-gpu beside a GPU: its list of providers, and what it makes, stand in."""
    import onnxruntime

    from apa_deploy.cli import doctor as verb
    from apa_deploy.runtimes import onnxruntime as ours

    facts, really_open = verb.gather_facts(), ours.open_session

    def open_session(path, options, providers):
        if providers[0][0] == CPU:
            return really_open(path, options=options, providers=providers)
        if isinstance(made, Exception):
            raise made
        return made

    packages = {"onnxruntime-gpu": facts.packages["onnxruntime"]}
    with_gpu = replace(facts, gpus=(Gpu("NVIDIA L4", "8.9"),), packages=packages, driver=(13, 0))
    monkeypatch.setattr(verb, "gather_facts", lambda: with_gpu)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ours, "require_gpu", lambda *_: None)
    monkeypatch.setattr(ours, "open_session", open_session)
    code, _, findings = doctor(_model(tmp_path / "m.onnx", AGLU, functions=True))
    topic = "loading on CUDA" if state == "missing" else "activations on CUDA"
    assert findings[topic]["state"] == state and said in findings[topic]["here"], findings
    assert code == (3 if state == "missing" else 0)
    assert findings["activations"]["here"] == f"1 fused on {CPU} (1 AGLU)"  # on the CPU, as ever


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A folder with a libcuda.so.1 that shows one L4 and a driver for CUDA 12.4."""
    compiler = shutil.which("cc") or shutil.which("c++")
    if not compiler:
        pytest.skip("no C compiler on this machine")
    folder = tmp_path_factory.mktemp("driver")
    source = Path(__file__).with_name("libcuda.c")
    command = [compiler, "-x", "c", "-shared", "-fPIC", str(source), "-o", str(folder / "libcuda.so.1")]
    subprocess.run(command, check=True)
    return folder


@NO_GPU
@pytest.mark.parametrize(("name", "fits"), [("SM86", False), ("SM89", True), ("portable", True)])
def test_beside_a_driver(driver, engines, name, fits):
    """The driver's own interface, asked in a process of its own."""
    code = "import sys; from apa_deploy.cli.doctor import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver)}
    command = [sys.executable, "-c", code, str(engines.path(name)), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    document = json.loads(done.stdout)
    findings = {f["topic"]: f for f in document["findings"]}
    assert document["machine"]["gpus"] == [{"name": "NVIDIA L4", "capability": "8.9"}]
    assert document["machine"]["driver_cuda"] == "12.4"
    assert findings["GPU"]["state"] == "ok"
    assert (findings["compute capability"]["state"] == "ok") is fits
    assert findings["driver"]["state"] == "missing"  # tensorrt-rtx-cu13 wants CUDA 13
    assert "r580" in findings["driver"]["do"]
    assert done.returncode == 3
