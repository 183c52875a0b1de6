"""apa_deploy.errors: what a library refuses is told apart from a bug of ours."""

import json
from pathlib import Path

import onnx
import onnxruntime
import pytest

from apa_deploy.cli.common import describe
from apa_deploy.errors import InputError, find_refusal


def _deep():
    json.loads("[" * 200_000)


def _full():
    raise MemoryError


RAISED = [
    # what raises, what the message begins with
    (lambda: onnx.checker.check_model(onnx.ModelProto()), "onnx refuses it: "),
    (lambda: onnx.ModelProto.FromString(b"\xff\xff"), "protobuf refuses it: "),
    (lambda: onnxruntime.InferenceSession(b"nothing"), "onnxruntime refuses it: "),
    (lambda: onnx.helper.tensor_dtype_to_np_dtype(77), "onnx refuses it: "),
    (_deep, "nested too deeply: "),
    (_full, "out of memory: "),
    (lambda: Path("a\0b").stat(), "the file system refuses it: "),
    (lambda: {}["a key of ours"], "unexpected KeyError: "),
    (lambda: int("one"), "unexpected ValueError: "),
]


@pytest.mark.parametrize(("action", "begins"), RAISED)
def test_whose_error_it_is(action, begins):
    with pytest.raises(Exception) as raised:
        action()
    assert describe(raised.value).startswith(begins)
    refusal = find_refusal(raised.value)
    assert (refusal is None) == begins.startswith("unexpected")
    assert refusal is None or (isinstance(refusal, InputError) and refusal.reason in str(refusal))
