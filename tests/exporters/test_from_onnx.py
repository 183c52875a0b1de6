"""`apa-export model.onnx`: somebody's file in, a verified one out."""

import json
from itertools import cycle
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from apa_exporters.cli import main
from apa_exporters.onnx import export as exporter
from apa_exporters.onnx.export import export_onnx
from apa_exporters.onnx.onnx_file import write_onnx
from apa_exporters.onnx.options import FORMATS, OnnxOptions
from onnx import TensorProto, helper, numpy_helper

import apa_deploy
from apa_deploy.errors import InputError
from apa_deploy.graph.node import Parameters, make_node
from apa_deploy.graph.precision import HALF_ELEMENT, UNIT_ROUNDOFF
from apa_deploy.records.parity import ParityError
from apa_deploy.runtimes import ort_session as session
from tests.graph.corpus import spellings
from tests.graph.corpus.make import TRUTH
from tests.graph.test_recognise_nested import if_model

CORPUS = Path(__file__).parents[1] / "graph" / "corpus" / "files"
FILES = sorted(CORPUS.glob("*.onnx"))


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save(model, path="theirs.onnx"):
    onnx.save(model, path)
    return Path(path)


def export(path, **options):
    shape = options.pop("input_shape", None)
    out = Path("out.onnx")
    passport = export_onnx(apa_deploy.load(path, input_shape=shape), out, OnnxOptions(force=True, **options))
    return passport, onnx.load(out)


@pytest.mark.parametrize(("path", "format"), list(zip(FILES, cycle(FORMATS))), ids=lambda v: getattr(v, "stem", v))
def test_the_corpus(path, format):
    passport, model = export(path, format=format)
    assert passport.parity.passed
    assert len(passport.parity.activations) >= len(TRUTH)
    assert [a.kind for a in passport.activations] == [kind for kind, _, _ in TRUTH]
    theirs = onnx.load(path)
    assert [v.name for v in model.graph.input] == [v.name for v in theirs.graph.input]
    assert [v.name for v in model.graph.output] == [v.name for v in theirs.graph.output]
    assert {e.domain: e.version for e in model.opset_import}[""] == 18


def test_the_passport_and_metadata(tmp_path):
    model = spellings.spelled(spellings.softplus_neg, "AGLU", 0.5, 0.9, shape=("N", 3, 8, 8))
    helper.set_model_props(model, {"names": "{0: 'cat'}", "apa.source": "stale"})
    passport, out = export(save(model))
    assert (passport.architecture, passport.input_shape, passport.output_names) == ("theirs", (3, 8, 8), ["y"])
    assert [(f.name, f.bytes) for f in passport.inputs] == [("theirs.onnx", Path("theirs.onnx").stat().st_size)]
    facts = {p.key: p.value for p in out.metadata_props}
    assert (facts["names"], facts["apa.source"]) == ("{0: 'cat'}", "theirs.onnx")
    recorded = json.loads(facts["apa.activations"])["act"]
    assert (recorded["kind"], recorded["lambda"], recorded["kappa"]) == ("AGLU", [0.5], [pytest.approx(0.9)])


@pytest.mark.parametrize("format", FORMATS)
def test_what_we_made_goes_in_again(format):
    source = save(spellings.spelled(spellings.softplus_neg, "AGLU", 0.5, 0.9, shape=("N", 3, 8, 8)))
    export(source, format=format)
    Path("out.onnx").rename("again.onnx")
    passport, _ = export("again.onnx", format="onnx-custom")
    assert passport.parity.passed
    assert [(a.path, a.kind) for a in passport.activations] == [("act", "AGLU")]


@pytest.mark.parametrize("format", FORMATS)
def test_a_model_in_half_precision(format):
    """It stays in half precision, and becomes more accurate than it was."""
    made = spellings.spelled(
        spellings.softplus_threshold, "AGLU", 0.5, 0.9, element=TensorProto.FLOAT16, shape=("N", 3, 8, 8)
    )
    passport, model = export(save(made), format=format)
    assert [a.kind for a in passport.activations] == ["AGLU"]
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    for check in passport.parity.outputs:
        assert check.max_rel <= check.torch_float32_max_rel


def test_a_curve_that_is_left_is_named(capsys):
    model = spellings.spelled(spellings.softplus_neg, "AGLU", 0.5, 0.9, shape=("N", 3, 8, 8))
    inside = next(node.output[0] for node in model.graph.node if node.op_type == "Softplus")
    model.graph.output.append(helper.make_tensor_value_info(inside, TensorProto.FLOAT, ["N", 3, 8, 8]))
    passport, _ = export(save(model))
    said = capsys.readouterr().err
    assert passport.parity.passed and not passport.activations
    assert f"{inside}, inside it, is used elsewhere" in said and "no learned activation" not in said


def of_onnx_runtime():
    """What ONNX Runtime's optimiser leaves of a transformer: operators of its own, an activation between them."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("BiasGelu", ["h", "b"], ["g"], domain="com.microsoft"),
            make_node("AGLU", "g", "a", Parameters((0.3,), (1.1,)), "unit"),
            helper.make_node("FusedMatMul", ["a", "w"], ["y"], domain="com.microsoft", transB=1),
        ],
        "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 7, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.random.default_rng(0).normal(size=(8, 8)).astype("f"), "w"),
            numpy_helper.from_array(np.ones(8, "f"), "b"),
        ],
    )
    opsets = [
        helper.make_opsetid("", 18),
        helper.make_opsetid("com.microsoft", 1),
        helper.make_opsetid("com.apa", 1),
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def test_operators_of_onnx_runtime_are_its_own_to_compute(capsys):
    passport, _ = export(save(of_onnx_runtime()))
    assert passport.parity.passed and len(passport.parity.outputs) == 1
    said = "com.microsoft::BiasGelu, com.microsoft::FusedMatMul: no float64 of it here"
    assert any(said in text for text in passport.notices)
    assert capsys.readouterr().err.count(said) == 1


@pytest.mark.parametrize("fault", [False, True], ids=["right", "a planted fault"])
def test_without_a_float64_it_is_judged_in_float32(fault, monkeypatch):
    def fail(*_):
        raise RuntimeError("no float64 of Strange")

    monkeypatch.setattr("apa_deploy.graph.evaluator.make_evaluator", fail)
    if fault:
        planted(monkeypatch, {"kappa": 0.95})
        with pytest.raises(ParityError):
            export(save(two_inputs()))
        return
    passport, _ = export(save(two_inputs()))
    assert passport.parity.passed and passport.parity.activations
    assert [text for text in passport.notices if "no float64 of Strange" in text and "float32" in text]


def test_half_inside_and_float32_at_the_ends_is_judged_as_half():
    """As `half=True` of Ultralytics writes it: each output has the limit of what the file itself rounds."""
    from onnxconverter_common.float16 import convert_float_to_float16

    halved = convert_float_to_float16(onnx.load(FILES[0]), keep_io_types=True, disable_shape_infer=True)
    nodes = list(halved.graph.node)
    del halved.graph.node[:]
    halved.graph.node.extend(reversed(nodes))  # in no order, which ONNX Runtime minds not
    passport, _ = export(save(halved))
    (check,) = passport.parity.outputs
    assert passport.parity.passed and check.limit > 1e-4 and check.stored_max_rel


def two_inputs():
    """Tokens and an image: an embedding beside a unit, two outputs, one of integers."""
    g = spellings.Graph(shape=("N", 3, "H", "W"))
    unit = g.op("Mul", g.barrier("x"), spellings.softplus_neg(g, g.nodes[0].output[0], 0.5, 0.9))
    table = g.initializer(np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32))
    g.nodes.append(helper.make_node("Gather", [table, "tokens"], ["embedded"]))
    g.nodes.append(helper.make_node("ArgMax", ["embedded"], ["best"], axis=-1, keepdims=0))
    model = g.model(unit)
    model.graph.input.append(helper.make_tensor_value_info("tokens", TensorProto.INT64, ["N", "T"]))
    model.graph.output.append(helper.make_tensor_value_info("best", TensorProto.INT64, [None, None]))
    return model


def test_several_inputs_and_outputs():
    passport, _ = export(save(two_inputs()), input_shape=(3, 8, 8))
    assert [c.name for c in passport.parity.outputs] == ["y", "best"]
    assert passport.parity.passed


def test_users_inputs_by_name():
    source = save(two_inputs())
    x, tokens = np.random.default_rng(0).standard_normal((4, 3, 5, 6)), np.ones((4, 7), int)
    np.savez("mine.npz", x=x, tokens=tokens)
    passport, _ = export(source, inputs=Path("mine.npz"))
    assert (passport.parity.inputs, passport.parity.outputs[0].samples) == ("mine.npz", 4)
    for arrays, saw in (({"x": x}, "tokens"), ({"x": x[0], "tokens": tokens}, "shape"),
                        ({"x": x * np.nan, "tokens": tokens}, "finite")):  # fmt: skip
        np.savez("bad.npz", **arrays)
        with pytest.raises(InputError, match=saw):
            export(source, inputs=Path("bad.npz"))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("path", [FILES[0], FILES[-1]], ids=lambda p: p.stem)
def test_half_precision(path, precision):
    """From opset 11 and from dynamo; the limit rests on what storing alone costs the original graph."""
    passport, model = export(path, precision=precision, format="onnx-custom")
    assert len(passport.parity.activations) >= len(TRUTH)
    for check in passport.parity.outputs:
        assert 0 < check.stored_max_rel < 2 * UNIT_ROUNDOFF[precision]  # a logistic head: values at most 1
    element = HALF_ELEMENT[precision]
    assert any(t.data_type == element for t in model.graph.initializer)


def test_half_precision_with_several_inputs_and_control_flow():
    passport, _ = export(save(two_inputs()), input_shape=(3, 8, 8), precision="fp16")
    assert {c.name for c in passport.parity.outputs} == {"y", "best"}
    passport, _ = export(save(if_model("AGLU")), precision="fp16")
    assert passport.parity.passed
    assert [a.kind for a in passport.activations] == ["AGLU"]


def test_a_planted_fault_in_half_precision(monkeypatch):
    """kappa off by 2 %: more than four times what storing costs."""
    planted(monkeypatch, {"kappa": 0.918})
    source = save(spellings.spelled(spellings.softplus_neg, "AGLU", 0.5, 0.9, shape=("N", 3, 8, 8)))
    with pytest.raises(ParityError, match="The first activation at fault is act") as caught:
        export(source, precision="fp16")
    assert not any(check.passed for check in caught.value.report.outputs)


def test_tokens_by_the_command(capsys):
    source = save(spellings.spelled(spellings.softplus_neg, "AGLU", 0.5, 0.9, shape=("N", "T", 3)))
    assert main([str(source), "--input-shape", "5x3", "--no-verify"]) == 0
    assert json.loads(Path("theirs.apa.onnx.passport.json").read_text())["input_shape"] == [5, 3]


def test_an_engine(capsys):
    """A file with a fixed batch decides the engine's; a second input has a shape of its own."""
    pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
    source = save(spellings.spelled(spellings.softplus_neg, "AGLU", 0.5, 0.9, shape=(2, 3, 8, 8)), "net.onnx")
    assert main([str(source), "--format", "trt-rtx", "--precision", "fp16", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["build"]["batches"] == [2, 2, 2]
    assert made["parity"]["passed"]
    assert Path("net.engine").stat().st_size > 0
    save(two_inputs())
    assert main(["theirs.onnx", "--format", "trt-rtx", "--input-shape", "3x8x8", "--batch", "1:2:4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["build"]["batches"] == [1, 2, 4]


def test_open_dimensions_are_said(capsys):
    export(save(spellings.spelled(spellings.softplus_neg, "AGLU", 0.5, 0.9)), verify=False)
    assert "verified at 3x224x224" in capsys.readouterr().err
    passport, _ = export("theirs.onnx", input_shape=(3, 8, 12))
    assert passport.input_shape == (3, 8, 12)


def test_a_fixed_batch():
    source = save(spellings.spelled(spellings.softplus_neg, "AGLU", 0.5, 0.9, shape=("N", 3, 8, 8)))
    _, model = export(source, batch=5)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 5
    Path("out.onnx").rename("five.onnx")
    with pytest.raises(InputError, match="a batch of 5"):
        export("five.onnx", batch=2)


@pytest.mark.parametrize(("have", "wanted", "got"), [(13, 18, 18), (18, 20, 20), (20, 18, 20)])
def test_opset(have, wanted, got):
    made = spellings.spelled(spellings.softplus_neg, "AGLU", 0.5, 0.9, opset=have, shape=("N", 3, 8, 8))
    _, model = export(save(made), opset=wanted)
    assert {e.domain: e.version for e in model.opset_import}[""] == got


@pytest.mark.parametrize("format", FORMATS)
def test_activations_in_a_branch(format):
    source = save(if_model("AGLU"))
    passport, model = export(source, format=format)
    assert [a.kind for a in passport.activations] == ["AGLU"]
    assert passport.parity.passed
    assert "Softplus" not in str(model)


def planted(monkeypatch, change):
    """Let the exporter write another value of an attribute than the one that was found."""
    honest = exporter._in_format

    def dishonest(traced, options, coded):
        for node in traced.proto.graph.node:
            for attribute in node.attribute:
                if node.domain == "com.apa" and attribute.name in change:
                    attribute.floats[0] = change[attribute.name]
        return honest(traced, options, coded)

    monkeypatch.setattr(exporter, "_in_format", dishonest)


@pytest.mark.parametrize("change", [{"kappa": 0.9001}, {"lambda": 0.501}])
def test_a_planted_fault_turns_the_gates_red(change, monkeypatch):
    source = save(spellings.spelled(spellings.softplus_neg, "AGLU", 0.5, 0.9, shape=("N", 3, 8, 8)))
    planted(monkeypatch, change)
    with pytest.raises(ParityError) as caught:
        export(source)
    assert caught.value.report.blame.path == "act"
    assert not Path("out.onnx").exists()


def test_weights_beyond_one_file(monkeypatch):
    """Limits lowered: weights come in beside the graph, go out beside it, and a fault is blamed all the same."""
    g = spellings.Graph(shape=("N", 3, 16, 16))
    z = g.op("Add", "x", g.initializer(np.ones((3, 16, 16), np.float32)))  # more than 1024 bytes: a weight
    model = g.model(g.op("Mul", z, spellings.softplus_neg(g, z, 0.5, 0.9)))
    onnx.save(model, "theirs.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    monkeypatch.setattr(exporter, "write_onnx", lambda proto, path: write_onnx(proto, path, largest=0))
    monkeypatch.setattr(session, "_LARGEST", 0)
    passport, _ = export("theirs.onnx")
    assert [f.name for f in passport.outputs] == ["out.onnx", "out.onnx.data"]
    Path("out.onnx.data").unlink()  # onnx refuses to write where the current folder has a file of that name
    planted(monkeypatch, {"kappa": 0.95})
    with pytest.raises(ParityError) as caught:
        export("theirs.onnx")
    assert caught.value.report.blame.path == "act"


def test_a_rewritten_weight_is_no_activations_fault(monkeypatch):
    g = spellings.Graph(shape=("N", 3, 8, 8))
    weight = g.initializer(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1))
    z = g.op("Conv", "x", weight)
    source = save(g.model(g.op("Mul", z, spellings.softplus_neg(g, z, 0.5, 0.9))))
    honest = exporter._in_format

    def dishonest(traced, options, coded):
        tensor = next(t for t in traced.proto.graph.initializer if t.name == weight)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.001), weight))
        return honest(traced, options, coded)

    monkeypatch.setattr(exporter, "_in_format", dishonest)
    with pytest.raises(ParityError, match="the rest of the graph is at fault"):
        export(source)


def test_the_command(capsys):
    source = save(spellings.lookalike(spellings.LOOKALIKES["SiLU"], in_company=True), "net.onnx")
    assert main([str(source), "--input-shape", "3x8x8", "--explain"]) == 0
    said = capsys.readouterr()
    assert "AGLU, lambda 0.5, kappa 0.9, from Mul Sub Mul Softplus Div Mul Exp Mul" in said.err
    assert "SiLU without lambda or kappa" in said.err
    assert "times as fast" in said.out
    assert {p.name for p in Path().iterdir()} == {"net.onnx", "net.apa.onnx", "net.apa.onnx.passport.json"}


MISUSE = [
    ("its own name", ["net.onnx", "-o", "net.onnx", "--force"], "another file than the source"),
    ("another size", ["net.onnx", "--input-shape", "4x8x8"], "Give the open dimensions only"),
    ("--arch", ["net.onnx", "--arch", "resnet50"], "--arch with an .onnx file"),
    ("--softmax", ["net.onnx", "--softmax"], "--softmax with net.onnx"),
    ("no model", ["none.onnx"], "No such file"),
]


@pytest.mark.parametrize(("arguments", "saw"), [c[1:] for c in MISUSE], ids=[c[0] for c in MISUSE])
def test_misuse(arguments, saw, capsys):
    save(spellings.spelled(spellings.softplus_neg, "AGLU", 0.5, 0.9, shape=("N", 3, "H", "W")), "net.onnx")
    assert main(arguments) == 2
    assert saw in capsys.readouterr().err
    assert [p.name for p in Path().iterdir()] == ["net.onnx"]


def test_a_model_without_activations_is_exported_all_the_same(capsys):
    source = save(spellings.lookalike(spellings.LOOKALIKES["Mish"]))
    passport, _ = export(source, input_shape=(3, 8, 8))
    assert passport.parity.passed
    assert "no learned activation" in capsys.readouterr().err
    onnxruntime.InferenceSession("out.onnx", providers=["CPUExecutionProvider"])
