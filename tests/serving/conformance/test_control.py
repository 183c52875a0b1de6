"""Unload and load, through every stock client; last in the folder's order, for it takes the model away."""

import pytest
from endpoint import CLIENTS, assert_same
from tritonclient.utils import InferenceServerException


@pytest.mark.parametrize("kind", CLIENTS)
def test_unload_and_load(endpoint, kind):
    feed = endpoint.feed()
    expected = endpoint.expected(feed)
    endpoint.call(kind, "unload_model", endpoint.model)
    try:
        assert endpoint.call(kind, "is_model_ready", endpoint.model) is False
        with pytest.raises(InferenceServerException):
            endpoint.infer(kind, feed)
    finally:
        endpoint.call(kind, "load_model", endpoint.model)
    assert endpoint.call(kind, "is_model_ready", endpoint.model) is True
    assert_same(endpoint.infer(kind, feed), expected)


@pytest.mark.parametrize("kind", CLIENTS)
def test_load_again_changes_nothing(endpoint, kind):
    feed = endpoint.feed()
    expected = endpoint.expected(feed)
    endpoint.call(kind, "load_model", endpoint.model)
    assert_same(endpoint.infer(kind, feed), expected)
