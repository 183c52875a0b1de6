"""apa_deploy.runtimes.ort_tensorrt: what TensorRT's provider is told, a function of the file; no GPU is needed."""

import os

import canonical_models as models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from apa_deploy.errors import InputError
from apa_deploy.maths import Parameters
from apa_deploy.runtimes import onnxruntime
from apa_deploy.runtimes.ort_tensorrt import (
    complete_options,
    half_options,
    profile_of,
    shape_options,
    without_fault,
)
from apa_deploy.runtimes.providers import CPU, CUDA, TENSORRT, choose_providers
from apa_deploy.tensors.signature import BATCH, TensorSpec

AVAILABLE = [TENSORRT, CUDA, CPU]
BATCHES = (1, 8, 32)
HALVES = [
    # types of the input and of a constant, ONNX Runtime, options
    (TensorProto.FLOAT, TensorProto.FLOAT, "1.31.1", {}),
    (TensorProto.FLOAT16, TensorProto.FLOAT, "1.31.1", {"trt_fp16_enable": "True"}),
    (TensorProto.FLOAT, TensorProto.FLOAT16, "1.17.1", {"trt_fp16_enable": "True"}),
    (TensorProto.BFLOAT16, TensorProto.FLOAT, "1.23.2", {"trt_bf16_enable": "True"}),
    (TensorProto.BFLOAT16, TensorProto.FLOAT, "1.17.1", {}),  # which does not know it
]
IMAGES = TensorSpec("images", "float32", (BATCH, 3, "height", "width"))
SHAPES = [
    # inputs, sample, range
    ((IMAGES,), (3, 8, 4), {"images": ((1, 3, 8, 4), (8, 3, 8, 4), (32, 3, 8, 4))}),
    ((IMAGES,), (), None),
    ((IMAGES, TensorSpec("size", "float32", (BATCH, 2))), (3, 8, 4),
     {"images": ((1, 3, 8, 4), (8, 3, 8, 4), (32, 3, 8, 4)), "size": ((1, 2), (8, 2), (32, 2))}),
    ((TensorSpec("x", "float32", (2, 5)),), (), {"x": ((2, 5),) * 3}),
    ((TensorSpec("x", "float32", ()),), (), None),
]  # fmt: skip


def network(shape=("N", 3), kind=TensorProto.FLOAT, constant=TensorProto.FLOAT, name="x", weight=1.0):
    numbers = helper.make_tensor("c", constant, [1], [weight])
    nodes = [helper.make_node("Constant", [], ["c"], value=numbers), helper.make_node("Identity", [name], ["y"])]
    ends = [helper.make_tensor_value_info(end, kind, shape) for end in (name, "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize(("kind", "constant", "version", "options"), HALVES)
def test_half_types_are_those_of_the_file(kind, constant, version, options):
    assert half_options(network(kind=kind, constant=constant), version) == options


@pytest.mark.parametrize(("inputs", "sample", "wanted"), SHAPES)
def test_the_range_of_shapes(inputs, sample, wanted):
    assert profile_of(inputs, sample, BATCHES) == wanted


def test_the_range_names_open_inputs_alone():
    profile = {"x": ((1, 3), (8, 3), (32, 3))}
    wanted = {"min": "x:1x3", "opt": "x:8x3", "max": "x:32x3"}
    assert shape_options(profile, network()) == {f"trt_profile_{k}_shapes": v for k, v in wanted.items()}
    assert shape_options(profile, network(shape=(8, 3))) == {}
    assert shape_options({"y": profile["x"]}, network()) == {}
    assert shape_options({"x:0": profile["x"]}, network(name="x:0")) == {}  # no text that the provider could read


@pytest.fixture
def complete(tmp_path, monkeypatch):
    """The options of TensorRT's provider for a model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def complete(model, given=None, profile=None):
        onnx.save(model, tmp_path / "model.onnx")
        choice = choose_providers([(TENSORRT, given or {}), CUDA, CPU], AVAILABLE)
        return complete_options(choice, tmp_path / "model.onnx", profile, "1.31.1")

    return complete


def options_of(choice):
    return dict(choice.providers)[TENSORRT]


def test_engines_are_kept_where_nobody_else_writes(complete, tmp_path):
    options = options_of(complete(network()))
    folder = tmp_path / "cache/apa-deploy/tensorrt"
    kept = options["trt_engine_cache_path"]
    assert options["trt_engine_cache_enable"] == "True"
    assert os.path.dirname(kept) == str(folder)  # noqa: PTH120
    assert os.stat(kept).st_mode & 0o777 == folder.stat().st_mode & 0o777 == 0o700  # noqa: PTH116
    again = options_of(complete(network()))["trt_engine_cache_path"]
    other = options_of(complete(network(weight=2.0)))["trt_engine_cache_path"]
    half = options_of(complete(network(), {"trt_fp16_enable": True}))["trt_engine_cache_path"]
    assert again == kept and len({kept, other, half}) == 3  # a weight and an option alone make another


def test_what_others_could_have_put_there_is_not_loaded(complete, tmp_path):
    kept = tmp_path / options_of(complete(network()))["trt_engine_cache_path"]
    (kept / "planted.engine").write_bytes(b"code")
    kept.chmod(0o777)
    complete(network())
    assert not list(kept.iterdir()) and kept.stat().st_mode & 0o777 == 0o700
    (kept / "planted.engine").write_bytes(b"code")
    kept.rename(tmp_path / "elsewhere")
    kept.symlink_to(tmp_path / "elsewhere")
    complete(network())
    assert not kept.is_symlink() and not list(kept.iterdir())
    os.utime(kept, (0, 0))  # nobody has used it since 1970
    complete(network(weight=2.0))
    assert not kept.exists()


def test_what_the_user_says_stays(complete):
    given = {"trt_engine_cache_enable": False, "trt_fp16_enable": False, "trt_profile_min_shapes": "x:1x3"}
    choice = complete(network(kind=TensorProto.FLOAT16), given, {"x": ((1, 3), (8, 3), (32, 3))})
    assert options_of(choice) == {name: str(value) for name, value in given.items()}
    assert not choice.profiled
    assert options_of(complete(network(), {"trt_engine_cache_path": "/mine"})) == {"trt_engine_cache_path": "/mine"}


def test_without_a_cache_it_goes_on(complete, tmp_path, capsys):
    (tmp_path / "cache").write_text("no folder")
    assert options_of(complete(network())) == {}
    assert "TensorRT's engines are not kept" in capsys.readouterr().err


PROFILES = "User needs to provide all the dynamic shape inputs with associated profiles if they want to"
BROKEN = "TensorRT EP could not deserialize engine from cache: /somewhere/x.engine"


def test_a_session_is_tried_again_without_what_is_in_the_way(complete, tmp_path, monkeypatch, capsys):
    choice = complete(network(), profile={"x": ((1, 3), (8, 3), (32, 3))})
    kept = tmp_path / options_of(choice)["trt_engine_cache_path"]
    (kept / "x.engine").write_bytes(b"cut off")
    faults, tried = [PROFILES, BROKEN], []

    def open_session(path, options, providers):
        tried.append((dict(providers)[TENSORRT], len(list(kept.iterdir()))))
        if faults:
            raise RuntimeError(faults.pop(0))
        return "a session"

    monkeypatch.setattr(onnxruntime, "open_session", open_session)
    package = type("Package", (), {"__version__": "1.31.1"})
    assert onnxruntime._session(package, tmp_path / "model.onnx", None, choice) == "a session"
    assert ["trt_profile_min_shapes" in options for options, _ in tried] == [True, False, False]
    assert [engines for _, engines in tried] == [1, 1, 0]
    assert "wants the shapes of inner values too" in capsys.readouterr().err
    faults[:] = [BROKEN]  # with nothing to remove it is the user's to see
    with pytest.raises(InputError, match="deserialize"):
        onnxruntime._session(package, tmp_path / "model.onnx", None, choice)


def test_the_users_own_range_and_folder_are_left_alone(complete, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/x.engine").write_bytes(b"cut off")
    given = {"trt_profile_min_shapes": "x:1x3", "trt_engine_cache_path": str(tmp_path / "mine")}
    choice = complete(network(), given)
    assert without_fault(choice, PROFILES) is None
    assert without_fault(choice, BROKEN) is None
    assert (tmp_path / "mine/x.engine").exists()


def test_an_activation_does_not_hide_the_types():
    model = models.one_node(Parameters((0.5,), (1.0,)))
    assert half_options(model, "1.31.1") == {}
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float16), "w"))
    assert half_options(model, "1.31.1") == {"trt_fp16_enable": "True"}
