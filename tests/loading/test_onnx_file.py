"""apa_deploy.loading.onnx_file: what a file may be, and what is said of it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import apa_deploy
from apa_deploy.errors import InputError
from apa_deploy.loading.onnx_file import OnnxFileError, load_onnx, with_sizes
from apa_deploy.loading.opset import OpsetError, convert_opset, opset_of
from apa_deploy.runtimes.ort_session import open_session
from apa_deploy.tensors.signature import read_signature
from tests.graph.corpus.spellings import GENERAL, spelled

UNIT = GENERAL["softplus, threshold by Greater"]


def saved(model, folder, name="m.onnx", **options):
    onnx.save(model, folder / name, **options)
    return folder / name


def not_onnx(folder):
    (folder / "m.onnx").write_bytes(b"\x89PNG not a model at all")
    return folder / "m.onnx"


def cut_short(folder):
    path = saved(spelled(UNIT, "AGLU", 0.5, 1.0), folder)
    path.write_bytes(path.read_bytes()[:200])
    return path


def without_weights(folder):
    model = spelled(UNIT, "AGLU", 0.5, 1.0)
    path = saved(model, folder, save_as_external_data=True, location="w.bin", size_threshold=0)
    (folder / "w.bin").unlink()
    return path


def outside(folder):
    """Weights in a folder above: an attack, or a file that was moved."""
    model = spelled(UNIT, "AGLU", 0.5, 1.0)
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../secret"
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def without_opset(folder):
    model = spelled(UNIT, "AGLU", 0.5, 1.0)
    del model.opset_import[:]
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


BAD = [
    ("no file", lambda folder: folder / "none.onnx", "No such file"),
    ("no ONNX", not_onnx, "wanted a complete ONNX model"),
    ("cut short", cut_short, "wanted a complete ONNX model"),
    ("empty", lambda folder: saved(onnx.ModelProto(), folder), "no graph"),
    ("no weights", without_weights, "weights cannot be read"),
    ("weights outside", outside, "weights cannot be read"),
    ("no opset", without_opset, "no opset"),
]


@pytest.mark.parametrize(("make", "saw"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_files_that_cannot_be_read(make, saw, tmp_path):
    with pytest.raises(OnnxFileError, match=saw):
        load_onnx(make(tmp_path))


def test_external_weights_and_initializers_that_are_inputs(tmp_path):
    model = spelled(UNIT, "AGLU", 0.5, 1.0)
    model.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in model.graph.initializer
    )
    path = saved(model, tmp_path, save_as_external_data=True, location="w.bin", size_threshold=0)
    loaded = apa_deploy.load(path)
    assert [spec.name for spec in loaded.signature.inputs] == ["x"]
    assert [f.kind for f in loaded.recognition.found] == ["AGLU"]


def test_a_session_of_a_model_of_any_size(monkeypatch):
    model = spelled(UNIT, "AGLU", 0.5, 1.0, shape=("N", 3))
    x = np.linspace(-5, 5, 6, dtype=np.float32).reshape(2, 3)
    wanted = open_session(model).run(None, {"x": x})
    monkeypatch.setattr("apa_deploy.runtimes.ort_session._LARGEST", 0)
    np.testing.assert_array_equal(open_session(model).run(None, {"x": x}), wanted)


def test_conversion_keeps_weights_names_and_metadata():
    weight = np.random.default_rng(0).standard_normal((64, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("ReduceMean", ["a"], ["y"], axes=[2, 3], keepdims=0),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 64])
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    helper.set_model_props(model, {"stride": "32"})
    after = convert_opset(model, 18)
    onnx.checker.check_model(after, full_check=True)
    assert opset_of(after) == 18
    assert [value.name for value in after.graph.input] == ["x"]
    assert [value.name for value in model.graph.input] == ["x"]
    assert {p.key: p.value for p in after.metadata_props} == {"stride": "32"}
    kept = {tensor.name: tensor for tensor in after.graph.initializer}
    np.testing.assert_array_equal(numpy_helper.to_array(kept["w"]), weight)


CUBE = np.random.default_rng(0).standard_normal((1, 3, 4, 4)).astype(np.float32)
# Operators whose meaning or form changed before opset 18: opset, node, initializers.
OLD = [
    (9, ("Upsample", ["x", "s"], {"mode": "nearest"}), {"s": np.array([1, 1, 2, 2], "f")}),
    (9, ("Upsample", ["x", "s"], {"mode": "linear"}), {"s": np.array([1, 1, 2, 2], "f")}),
    (10, ("Resize", ["x", "s"], {"mode": "linear"}), {"s": np.array([1, 1, 2, 2], "f")}),
    (9, ("Pad", ["x"], {"pads": [0, 0, 1, 1, 0, 0, 1, 1]}), {}),
    (9, ("Clip", ["x"], {"min": 0.0, "max": 0.5}), {}),
    (9, ("Slice", ["x"], {"axes": [1], "starts": [0], "ends": [2]}), {}),
    (11, ("Softmax", ["x"], {"axis": 1}), {}),
    (11, ("Squeeze", ["x"], {"axes": [0]}), {}),
    (11, ("ReduceSum", ["x"], {"axes": [1]}), {}),
    (13, ("ReduceMean", ["x"], {"axes": [1]}), {}),
]


@pytest.mark.parametrize(
    ("opset", "node", "weights"), OLD, ids=[f"{o} {n[0]} {n[2].get('mode', '')}" for o, n, _ in OLD]
)
@pytest.mark.parametrize("nested", [False, True], ids=["", "in a branch"])
def test_old_operators_mean_the_same_in_18(opset, node, weights, nested):
    operator, inputs, attributes = node
    nodes = [helper.make_node(operator, inputs, ["y"], **attributes)]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    if nested:
        branch = helper.make_graph([helper.make_node(operator, inputs, ["b"], **attributes)], "b", [],
                                   [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)])  # fmt: skip
        nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
        tensors.append(numpy_helper.from_array(np.array(True), "c"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, CUBE.shape)
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    values = [open_session(m).run(None, {"x": CUBE})[0] for m in (before, convert_opset(before, 18))]
    np.testing.assert_allclose(values[1], values[0], rtol=1e-6, atol=1e-6)


def test_an_operator_that_cannot_be_converted():
    model = spelled(UNIT, "AGLU", 0.5, 1.0, opset=13)
    model.graph.node.append(helper.make_node("NoSuchOperator", ["x"], ["z"]))
    with pytest.raises(OpsetError, match="opset 13") as caught:
        convert_opset(model, 18)
    assert (caught.value.have, caught.value.wanted_opset) == (13, 18)
    assert caught.value.reason


def shaped(*dims):
    return spelled(UNIT, "AGLU", 0.5, 1.0, shape=dims)


SHAPES = [
    ("all given", ("N", 3, 16, 16), None, (3, 16, 16), ""),
    ("an open image", ("N", "C", "H", "W"), None, (3, 224, 224), "verified at 3x224x224"),
    ("an open size", ("N", 4, "H", "W"), None, (4, 224, 224), "verified at 4x224x224"),
    ("open tokens", ("N", "T", 64), None, (16, 64), "verified at 16x64"),
    ("told", ("N", 3, "H", "W"), (3, 32, 48), (3, 32, 48), ""),
]


@pytest.mark.parametrize(("dims", "wanted", "shape", "said"), [c[1:] for c in SHAPES], ids=[c[0] for c in SHAPES])
def test_open_dimensions(dims, wanted, shape, said):
    found, notices = with_sizes(read_signature(shaped(*dims)), wanted)
    assert found.first.sizes == shape
    assert said in " ".join(notices)


def test_a_file_of_which_nothing_runs(tmp_path):
    model = shaped("N", 3, 16, 16)
    node = helper.make_node("Norm", ["x"], ["x1"], domain="their.own")
    for other in model.graph.node:
        other.input[:] = ["x1" if name == "x" else name for name in other.input]
    model.graph.node.insert(0, node)
    model.opset_import.append(helper.make_opsetid("their.own", 1))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"their\.own::Norm.*--ort-library"):
        apa_deploy.load(tmp_path / "m.onnx")


@pytest.mark.parametrize("said", [{"input_shape": (3, 16, 16)}, {"input": ["x=3xHx16"]}, {}], ids=str)
def test_a_file_without_shapes_asks_for_them(said, tmp_path):
    model = shaped("N", 3, 16, 16)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "m.onnx")
    network = apa_deploy.load(tmp_path / "m.onnx", **said)
    if said:
        assert network.signature.first.sizes == (3, 16, 16)
        assert len(network.trace().proto.graph.input[0].type.tensor_type.shape.dim) == 4
    else:
        with pytest.raises(InputError, match="--input-shape"):
            _ = network.signature.first.sizes


@pytest.mark.parametrize("wanted", [(3, 32, 32), (4, 16, 16), (3, 16)])
def test_a_shape_that_contradicts_the_file(wanted):
    with pytest.raises(InputError, match="3x16x16"):
        with_sizes(read_signature(shaped("N", 3, 16, 16)), wanted)


@pytest.mark.parametrize("option", [{"arch": "se_resnet50"}, {"floor": "none"}, {"weights": "ema"}])
def test_options_of_checkpoints_are_refused(option, tmp_path):
    path = saved(spelled(UNIT, "AGLU", 0.5, 1.0), tmp_path)
    with pytest.raises(InputError, match=r"with an \.onnx file"):
        apa_deploy.load(path, **option)


def test_a_scan_with_a_batch_of_its_own_is_refused():
    """onnx converts it without an error, and to another function."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("s", "x", "t", "y")]
    nodes = [helper.make_node("Add", ["s", "x"], ["t"]), helper.make_node("Identity", ["t"], ["y"])]
    body = helper.make_graph(nodes, "body", value[:2], value[2:])
    scan = helper.make_node("Scan", ["", "s0", "xs"], ["s1", "ys"], body=body, num_scan_inputs=1)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("s0", "xs", "s1", "ys")]
    model = helper.make_model(
        helper.make_graph([scan], "g", ends[:2], ends[2:]),
        opset_imports=[helper.make_opsetid("", 8)],
        ir_version=3,
    )
    with pytest.raises(OpsetError, match="Scan of opset 8"):
        convert_opset(model, 18)
