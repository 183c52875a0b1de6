"""What does not fit is refused with an error, and the server goes on."""

import json
import urllib.error
import urllib.request

import numpy as np
import pytest
from endpoint import CLIENTS, assert_same
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


@pytest.fixture(params=CLIENTS)
def kind(request):
    return request.param


def _tensor(kind, name, array):
    tensor = CLIENTS[kind].InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def _first(feed):
    return next(iter(feed.items()))


def _with_dtype(kind, feed, e):
    name, array = _first(feed)
    return [_tensor(kind, name, array.astype(np.int32))]


def _with_name(kind, feed, e):
    return [_tensor(kind, "no-such-input", _first(feed)[1])]


def _with_shape(kind, feed, e):
    name, array = _first(feed)
    return [_tensor(kind, name, np.concatenate([array, array], axis=-1))]


def _with_rank(kind, feed, e):
    name, array = _first(feed)
    return [_tensor(kind, name, array[..., None])]


def _too_many(kind, feed, e):
    return e.inputs(kind, e.feed(rows=e.max_batch + 1))


BAD_INPUTS = [_with_dtype, _with_name, _with_shape, _with_rank, _too_many]


@pytest.mark.parametrize("make", BAD_INPUTS, ids=lambda make: make.__name__.strip("_"))
def test_inputs_that_do_not_fit(endpoint, kind, make):
    feed = endpoint.feed()
    with pytest.raises(InferenceServerException):
        endpoint.call(kind, "infer", endpoint.model, make(kind, feed, endpoint))
    assert_same(endpoint.infer(kind, feed), endpoint.expected(feed))


UNKNOWN = [
    ("model", "infer", lambda e, i: (("no-such-model", i), {})),
    ("version", "infer", lambda e, i: ((e.model, i), {"model_version": "9999"})),
    ("metadata of a model", "get_model_metadata", lambda e, i: (("no-such-model",), {})),
    ("config of a model", "get_model_config", lambda e, i: (("no-such-model",), {})),
    ("statistics of a model", "get_inference_statistics", lambda e, i: (("no-such-model",), {})),
    ("model to load", "load_model", lambda e, i: (("no-such-model",), {})),
]


@pytest.mark.parametrize(("method", "make"), [c[1:] for c in UNKNOWN], ids=[c[0] for c in UNKNOWN])
def test_unknown_names(endpoint, kind, method, make):
    arguments, options = make(endpoint, endpoint.inputs(kind, endpoint.feed()))
    with pytest.raises(InferenceServerException):
        endpoint.call(kind, method, *arguments, **options)


def test_unknown_output(endpoint, kind):
    asked = [CLIENTS[kind].InferRequestedOutput("no-such-output")]
    with pytest.raises(InferenceServerException):
        endpoint.call(kind, "infer", endpoint.model, endpoint.inputs(kind, endpoint.feed()), outputs=asked)


BODIES = [
    ("no JSON", b"what", {}),
    ("no object", b"[]", {}),
    ("no inputs", b"{}", {}),
    ("inputs that are no list", b'{"inputs": {"name": 1}}', {}),
    ("a binary header beyond the body", b"{}", {"Inference-Header-Content-Length": "99"}),
    ("a binary header that is no number", b"{}", {"Inference-Header-Content-Length": "many"}),
]


@pytest.mark.parametrize(("body", "headers"), [c[1:] for c in BODIES], ids=[c[0] for c in BODIES])
def test_malformed_bodies_get_an_error_document(endpoint, body, headers):
    url = f"http://{endpoint.http}/v2/models/{endpoint.model}/infer"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30)
    assert refused.value.code >= 400
    assert json.loads(refused.value.read())["error"]
    assert endpoint.call("http", "is_server_ready")
