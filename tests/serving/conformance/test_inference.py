"""Inference through every stock client: right values, in every encoding, alone and together."""

import asyncio
import queue
import threading

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from endpoint import CLIENTS, assert_same
from tritonclient.utils import InferenceServerException


@pytest.fixture(params=CLIENTS)
def kind(request):
    return request.param


@pytest.mark.parametrize("rows", [1, 3, "max"])
def test_values(endpoint, kind, rows):
    feed = endpoint.feed(endpoint.max_batch if rows == "max" else rows)
    assert_same(endpoint.infer(kind, feed), endpoint.expected(feed))


def test_id_and_version_come_back(endpoint, kind):
    inputs = endpoint.inputs(kind, endpoint.feed())
    result = endpoint.call(kind, "infer", endpoint.model, inputs, model_version="1", request_id="request-7")
    response = result.get_response()
    of = response.get if isinstance(response, dict) else lambda name: getattr(response, name)
    assert (of("id"), of("model_name"), of("model_version")) == ("request-7", endpoint.model, "1")


def test_only_the_outputs_asked_for(endpoint, kind):
    name = endpoint.output_names[-1]
    feed = endpoint.feed()
    wanted = [CLIENTS[kind].InferRequestedOutput(name)]
    result = endpoint.call(kind, "infer", endpoint.model, endpoint.inputs(kind, feed), outputs=wanted)
    response = result.get_response()
    outputs = response["outputs"] if isinstance(response, dict) else response.outputs
    assert len(outputs) == 1
    assert_same({name: result.as_numpy(name)}, {name: endpoint.expected(feed)[name]})


@pytest.mark.parametrize("http", ["http", "http.aio"])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_json_and_binary(endpoint, http, binary_in, binary_out):
    feed = endpoint.feed(rows=2)
    inputs = endpoint.inputs(http, feed, binary_data=binary_in)
    asked = [CLIENTS[http].InferRequestedOutput(name, binary_data=binary_out) for name in endpoint.output_names]
    result = endpoint.call(http, "infer", endpoint.model, inputs, outputs=asked)
    assert_same({name: result.as_numpy(name) for name in endpoint.output_names}, endpoint.expected(feed))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("http", ["http", "http.aio"])
def test_http_compression(endpoint, http, coding):
    feed = endpoint.feed(rows=endpoint.max_batch)
    options = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
    assert_same(endpoint.infer(http, feed, **options), endpoint.expected(feed))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_grpc_compression(endpoint, coding):
    feed = endpoint.feed(rows=2)
    assert_same(endpoint.infer("grpc", feed, compression_algorithm=coding), endpoint.expected(feed))


@pytest.mark.parametrize("aio", ["http.aio", "grpc.aio"])
def test_each_of_many_at_once_gets_its_own(endpoint, aio):
    feeds = [endpoint.feed(rows=1 + seed % 3, seed=seed) for seed in range(48)]

    async def all_at_once():
        async with CLIENTS[aio].InferenceServerClient(endpoint.url(aio)) as client:
            calls = [client.infer(endpoint.model, endpoint.inputs(aio, feed)) for feed in feeds]
            return await asyncio.gather(*calls)

    for feed, result in zip(feeds, asyncio.run(all_at_once()), strict=True):
        got = {name: result.as_numpy(name) for name in endpoint.output_names}
        assert_same(got, endpoint.expected(feed))


def test_http_async_infer(endpoint):
    feeds = [endpoint.feed(seed=seed) for seed in range(8)]
    with tritonclient.http.InferenceServerClient(endpoint.http, concurrency=4) as client:
        waiting = [client.async_infer(endpoint.model, endpoint.inputs("http", feed)) for feed in feeds]
        results = [one.get_result() for one in waiting]
    for feed, result in zip(feeds, results, strict=True):
        assert_same({n: result.as_numpy(n) for n in endpoint.output_names}, endpoint.expected(feed))


def test_grpc_async_infer(endpoint):
    feed, answers = endpoint.feed(), queue.Queue()
    with tritonclient.grpc.InferenceServerClient(endpoint.grpc) as client:
        inputs = endpoint.inputs("grpc", feed)
        client.async_infer(endpoint.model, inputs, lambda result, error: answers.put((result, error)))
        result, error = answers.get(timeout=30)
    assert error is None
    assert_same({n: result.as_numpy(n) for n in endpoint.output_names}, endpoint.expected(feed))


def test_grpc_stream_goes_on_after_a_refusal(endpoint):
    feeds = [endpoint.feed(seed=seed) for seed in range(3)]
    answers = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(endpoint.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("no-such-model", endpoint.inputs("grpc", feeds[0]))
        _, refused = answers.get(timeout=30)
        for feed in feeds:
            client.async_stream_infer(endpoint.model, endpoint.inputs("grpc", feed))
        results = [answers.get(timeout=30) for _ in feeds]
        client.stop_stream()
    assert isinstance(refused, InferenceServerException)
    for feed, (result, error) in zip(feeds, results, strict=True):
        assert error is None
        assert_same({n: result.as_numpy(n) for n in endpoint.output_names}, endpoint.expected(feed))


def test_classification(endpoint, kind):
    name, feed = endpoint.output_names[0], endpoint.feed(rows=2)
    options = {"binary_data": True} if kind.startswith("http") else {}
    asked = [CLIENTS[kind].InferRequestedOutput(name, class_count=2, **options)]
    result = endpoint.call(kind, "infer", endpoint.model, endpoint.inputs(kind, feed), outputs=asked)
    scores = endpoint.expected(feed)[name].reshape(2, -1)
    best = np.argsort(-scores, axis=1)[:, :2]
    got = [[text.decode().split(":") for text in row] for row in result.as_numpy(name)]
    assert [[int(fields[1]) for fields in row] for row in got] == best.tolist()
    for row in range(2):  # six decimals are printed
        printed = [float(fields[0]) for fields in got[row]]
        np.testing.assert_allclose(printed, scores[row][best[row]], rtol=0, atol=1e-5)


def test_threads_share_a_grpc_client(endpoint):
    wrong = []

    def work(client, seed):
        feed = endpoint.feed(seed=seed)
        result = client.infer(endpoint.model, endpoint.inputs("grpc", feed))
        try:
            assert_same({n: result.as_numpy(n) for n in endpoint.output_names}, endpoint.expected(feed))
        except AssertionError as error:
            wrong.append(error)

    with tritonclient.grpc.InferenceServerClient(endpoint.grpc) as client:
        threads = [threading.Thread(target=work, args=(client, seed)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
