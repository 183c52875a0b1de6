"""Bodies to requests and back: what is taken, and what is refused with which part named."""

import gzip
import json
import zlib

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from apa_deploy.serving import grpc_codec, http_codec
from apa_deploy.serving.compression import choose_coding, compress, expand
from apa_deploy.serving.errors import RequestError, TooLargeError, UnsupportedError
from apa_deploy.serving.request import InferReply, WantedOutput, trace_id
from apa_deploy.serving.tensors import array_from_bytes, bytes_from_array, read_datatype


def tensor(**changes):
    return {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]} | changes


def body(*tensors, **fields) -> bytes:
    return json.dumps({"inputs": list(tensors), **fields}).encode()


VALUES = [
    ("flat", tensor(), [[1, 2], [3, 4]]),
    ("nested", tensor(data=[[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    ("scalar", tensor(shape=[], data=[1.5]), 1.5),
    ("half", tensor(datatype="FP16", data=[0.5, 1, 2, 3]), [[0.5, 1], [2, 3]]),
    ("integers", tensor(datatype="INT8", data=[-128, 127, 0, 1]), [[-128, 127], [0, 1]]),
    ("booleans", tensor(datatype="BOOL", data=[True, False, True, True]), [[True, False], [True, True]]),
    ("strings", tensor(datatype="BYTES", data=["a", "b", "", "d"]), [["a", "b"], ["", "d"]]),
]


@pytest.mark.parametrize(("entry", "wanted"), [c[1:] for c in VALUES], ids=[c[0] for c in VALUES])
def test_json_values(entry, wanted):
    array = http_codec.decode(body(entry), None).inputs["x"]
    assert array.dtype == read_datatype(entry["datatype"]).dtype
    np.testing.assert_array_equal(array, np.array(wanted, array.dtype))


BINARY = {"parameters": {"binary_data_size": 16}}
REFUSED = [
    ("a missing name", {"name": None}, "name of an input"),
    ("no datatype", {"datatype": None}, "datatype"),
    ("an unknown datatype", {"datatype": "BF16"}, "datatype"),
    ("a negative size", {"shape": [-2, 2]}, "shape"),
    ("an empty batch", {"shape": [0, 2], "data": []}, "shape"),
    ("a size that is no integer", {"shape": [2.0, 2]}, "shape"),
    ("a size that is true", {"shape": [True, 4]}, "shape"),
    ("a shape of text", {"shape": "22"}, "shape"),
    ("a rank of 17", {"shape": [1] * 17}, "shape"),
    ("a shape beyond memory", {"shape": [2**62, 2**62]}, "values"),
    ("an integer beyond FP32", {"data": [1, 2, 3, 2**200]}, "FP32"),
    ("an integer beyond every float", {"data": [1, 2, 3, 10**400]}, "FP32"),
    ("a number beyond FP16", {"datatype": "FP16", "data": [1, 2, 3, 7e4]}, "FP16"),
    ("too few values", {"data": [1, 2, 3]}, "values"),
    ("too many values", {"data": [1, 2, 3, 4, 5]}, "values"),
    ("nested otherwise", {"data": [[1, 2, 3, 4]]}, "values"),
    ("ragged", {"data": [[1, 2], [3]]}, "input 'x'"),
    ("no list", {"data": 1}, "a list"),
    ("no data", {"data": None}, "a list"),
    ("text among numbers", {"data": [1, "2", 3, 4]}, "holds '2'"),
    ("true among numbers", {"data": [1, True, 3, 4]}, "holds 'True'"),
    ("null among numbers", {"data": [1, None, 3, 4]}, "holds 'None'"),
    ("a fraction among integers", {"datatype": "INT32", "data": [1.5, 2, 3, 4]}, "holds '1.5'"),
    ("an integer too large", {"datatype": "INT64", "data": [2**64, 2, 3, 4]}, "input 'x'"),
    ("binary beyond the body", BINARY, "beyond the body"),
    ("a negative binary size", {"parameters": {"binary_data_size": -1}}, "binary_data_size"),
    ("a binary size of text", {"parameters": {"binary_data_size": "16"}}, "binary_data_size"),
    ("parameters of text", {"parameters": "p"}, "parameters"),
]


@pytest.mark.parametrize(("changes", "saw"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_json_refusals(changes, saw):
    with pytest.raises(RequestError, match=saw):
        http_codec.decode(body(tensor(**changes)), None)


DOCUMENTS = [
    ("no JSON", b"{", None),
    ("not UTF-8", b'{"inputs": "\xff"}', None),
    ("NaN", body(tensor()).replace(b"4]", b"NaN]"), None),
    ("infinity", body(tensor()).replace(b"4]", b"-Infinity]"), None),
    ("a number of 5000 digits", body(tensor()).replace(b"4]", b"4" * 5000 + b"]"), None),
    ("100,000 brackets", b"[" * 100_000, None),
    ("a list", b"[]", None),
    ("no inputs", b"{}", None),
    ("empty inputs", b'{"inputs": []}', None),
    ("inputs of numbers", b'{"inputs": [1]}', None),
    ("an input twice", body(tensor(), tensor()), None),
    ("an id that is no text", body(tensor(), id=7), None),
    ("outputs of text", body(tensor(), outputs="y"), None),
    ("a timeout below 0", body(tensor(), parameters={"timeout": -1}), None),
    ("binary_data_output of 1", body(tensor(), parameters={"binary_data_output": 1}), None),
    ("bytes after the JSON", body(tensor()) + b"more", str(len(body(tensor())))),
    ("a header length beyond the body", body(tensor()), "9999"),
    ("a negative header length", body(tensor()), "-1"),
    ("a header length of text", body(tensor()), "0x10"),
    ("a header length of 40 digits", body(tensor()), "1" * 40),
    ("a header length within the JSON", body(tensor()), "10"),
]


@pytest.mark.parametrize(("data", "length"), [c[1:] for c in DOCUMENTS], ids=[c[0] for c in DOCUMENTS])
def test_document_refusals(data, length):
    with pytest.raises(RequestError):
        http_codec.decode(data, length)


@pytest.mark.parametrize("parameters", [{"shared_memory_region": "r"}, {"sequence_id": 1}])
def test_what_is_not_supported_says_so(parameters):
    with pytest.raises(UnsupportedError):
        http_codec.decode(body(tensor(), parameters=parameters), None)


DTYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]


@pytest.mark.parametrize("name", [*DTYPES, "BYTES"])
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_bytes_there_and_back(name, offset):
    datatype = read_datatype(name)
    values = ["", "né", "x" * 300, "\x00", "a", "b"] if name == "BYTES" else [0, 1, 1, 0, 1, 1]
    array = np.array(values, datatype.dtype).reshape(2, 3)
    buffer = b"\x07" * offset + bytes_from_array(array)
    back = array_from_bytes(memoryview(buffer)[offset:], datatype, (2, 3), "x")
    assert back.dtype == array.dtype
    assert back.flags.aligned
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("data", [b"\x02", b"\x05\x00\x00\x00ab", b"\xff\xff\xff\xffab", b"\x01\x00\x00\x00a" * 3])
def test_broken_strings_are_refused(data):
    with pytest.raises(RequestError):
        array_from_bytes(data, read_datatype("BYTES"), (2,), "x")


def test_any_byte_is_a_boolean():
    array = array_from_bytes(b"\x00\x01\x02\xff", read_datatype("BOOL"), (4,), "x")
    assert array.view(np.uint8).tolist() == [0, 1, 1, 1]


def test_a_reply_mixes_json_and_binary():
    arrays = [np.array([[1.5]], np.float32), np.array([[2.5]], np.float64)]
    outputs = [(WantedOutput("a", binary=False), arrays[0]), (WantedOutput("b", binary=True), arrays[1])]
    parts, headers = http_codec.encode(InferReply("m", "3", "id", outputs))
    data = b"".join(parts)
    length = int(headers[http_codec.HEADER_LENGTH])
    document = json.loads(data[:length])
    assert (document["model_name"], document["model_version"], document["id"]) == ("m", "3", "id")
    assert document["outputs"][0] == {"name": "a", "datatype": "FP32", "shape": [1, 1], "data": [1.5]}
    assert document["outputs"][1]["parameters"] == {"binary_data_size": 8}
    assert data[length:] == arrays[1].tobytes()


def test_json_has_no_word_for_nan():
    reply = InferReply("m", "1", "", [(WantedOutput("a", binary=False), np.array([np.nan], np.float32))])
    with pytest.raises(RequestError, match="binary"):
        http_codec.encode(reply)


def message(**fields):
    return pb.ModelInferRequest(model_name="m", **fields)


def grpc_tensor(**changes):
    return pb.ModelInferRequest.InferInputTensor(**({"name": "x", "datatype": "FP32", "shape": [2]} | changes))


TYPED = [
    ("BOOL", "bool_contents", [True, False]),
    ("INT8", "int_contents", [-1, 1]),
    ("UINT16", "uint_contents", [1, 65535]),
    ("INT64", "int64_contents", [-(2**62), 1]),
    ("UINT64", "uint64_contents", [2**63, 1]),
    ("FP32", "fp32_contents", [0.5, 1.5]),
    ("FP64", "fp64_contents", [0.1, 1.5]),
    ("BYTES", "bytes_contents", [b"a", b"b"]),
]


@pytest.mark.parametrize(("name", "field", "values"), TYPED, ids=[c[0] for c in TYPED])
def test_typed_contents(name, field, values):
    entry = grpc_tensor(datatype=name, contents={field: values})
    array = grpc_codec.decode(message(inputs=[entry])).inputs["x"]
    texts = [value.decode() if isinstance(value, bytes) else value for value in values]
    np.testing.assert_array_equal(array, np.array(texts, read_datatype(name).dtype))


GRPC_REFUSED = [
    ("no contents", {"inputs": [grpc_tensor()]}),
    ("too few typed values", {"inputs": [grpc_tensor(contents={"fp32_contents": [1.0]})]}),
    ("values of another type", {"inputs": [grpc_tensor(contents={"int_contents": [1, 2]})]}),
    ("typed half", {"inputs": [grpc_tensor(datatype="FP16", contents={"fp32_contents": [1, 2]})]}),
    ("an INT8 of 300", {"inputs": [grpc_tensor(datatype="INT8", contents={"int_contents": [300, 1]})]}),
    ("too few raw bytes", {"inputs": [grpc_tensor()], "raw_input_contents": [b"1234"]}),
    ("raw contents for nothing", {"inputs": [grpc_tensor()], "raw_input_contents": [b"12345678"] * 2}),
    ("typed and raw", {"inputs": [grpc_tensor(contents={"fp32_contents": [1, 2]})],
                       "raw_input_contents": [b"12345678"]}),
    ("an input twice", {"inputs": [grpc_tensor()] * 2, "raw_input_contents": [b"12345678"] * 2}),
    ("a negative size", {"inputs": [grpc_tensor(shape=[-2])], "raw_input_contents": [b"12345678"]}),
    ("an unknown datatype", {"inputs": [grpc_tensor(datatype="X")], "raw_input_contents": [b"12345678"]}),
]  # fmt: skip


@pytest.mark.parametrize("fields", [c[1] for c in GRPC_REFUSED], ids=[c[0] for c in GRPC_REFUSED])
def test_grpc_refusals(fields):
    with pytest.raises(RequestError):
        grpc_codec.decode(message(**fields))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compression_there_and_back(coding):
    assert expand(compress([b"data" * 9, b"data" * 90], coding), coding, 1000) == b"data" * 99


EXPANSIONS = [
    ("a bomb", gzip.compress(bytes(10_000_000)), "gzip", TooLargeError),
    ("cut short", gzip.compress(b"x" * 100)[:-9], "gzip", RequestError),
    ("no gzip", b"plain", "gzip", RequestError),
    ("another coding", b"plain", "br", UnsupportedError),
    ("deflate with a gzip label", zlib.compress(b"x"), "gzip", RequestError),
]


@pytest.mark.parametrize(("data", "coding", "error"), [c[1:] for c in EXPANSIONS], ids=[c[0] for c in EXPANSIONS])
def test_expansion_refusals(data, coding, error):
    with pytest.raises(error):
        expand(data, coding, 1000)


ACCEPT = [(None, ""), ("gzip", "gzip"), ("br, deflate;q=0.5", "deflate"), ("gzip;q=0, identity", ""), ("*", "")]


@pytest.mark.parametrize(("header", "coding"), ACCEPT)
def test_accepted_coding(header, coding):
    assert choose_coding(header) == coding


IDS = [("given", "given"), ("", None), ("two words", None), ("line\nbreak", None), ("x" * 129, None), ("é", None)]


@pytest.mark.parametrize(("given", "wanted"), IDS)
def test_only_safe_ids_are_kept(given, wanted):
    assert (trace_id(given) == given) is (wanted is not None)
