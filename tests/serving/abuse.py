"""Malformed HTTP requests, made from a seed: the ten thousand of the server's abuse test."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

PATH = "/v2/models/act/infer"
FIT = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
ANY_ANSWER = range(200, 500)  # a random change may leave the request good
REFUSAL = range(400, 500)


@dataclass
class Abuse:
    """Raw bytes of one request and the statuses that answer it rightly; `closes`: the server may hang up."""

    raw: bytes
    wanted: range = REFUSAL
    closes: bool = False


def requests(count: int, seed: int) -> Iterator[Abuse]:
    """`count` requests, every maker in turn."""
    generator = random.Random(seed)
    for at in range(count):
        yield MAKERS[at % len(MAKERS)](generator)


def http(body: bytes, headers: dict[str, str] | None = None, path: str = PATH, method: str = "POST") -> bytes:
    """One request as it travels."""
    fields = {"Host": "h", "Content-Length": str(len(body))} | (headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def infer(**changes: object) -> bytes:
    """The body of an inference whose tensor is changed."""
    return json.dumps({"inputs": [FIT | changes]}).encode()


def wrong_shape(r: random.Random) -> Abuse:
    shapes = [
        [1],
        [1, 5],
        [4, 1],
        [1, 1, 4],
        [0, 4],
        [-1, 4],
        [2**40, 4],
        [1.0, 4],
        "14",
        [[1, 4]],
        None,
        [True, 4],
    ]
    return Abuse(http(infer(shape=r.choice(shapes))))


def wrong_count(r: random.Random) -> Abuse:
    return Abuse(http(infer(data=[1] * r.choice([0, 1, 3, 5, 400]))))


def wrong_type(r: random.Random) -> Abuse:
    return Abuse(http(infer(datatype=r.choice(["FP64", "INT32", "BYTES", "BF16", "fp32", "", None, 7, [], {}]))))


def wrong_value(r: random.Random) -> Abuse:
    return Abuse(http(infer(data=[1, 2, 3, r.choice(["4", None, True, [], {}, "NaN", [4]])])))


def wrong_batch(r: random.Random) -> Abuse:
    rows = r.randint(9, 200)
    return Abuse(http(infer(shape=[rows, 4], data=[0] * (4 * rows))))


def wrong_name(r: random.Random) -> Abuse:
    return Abuse(http(infer(name=r.choice(["", "X", "y", "x\x00", "x" * 5000, None, 3, "\ud800"]))))


def wrong_path(r: random.Random) -> Abuse:
    names = [
        "none",
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "act%00",
        "act%2f1",
        "%ff",
        "a" * 3000,
        "act.onnx",
        " ",
    ]
    name = r.choice(names).replace(" ", "%20")
    paths = [
        f"/v2/models/{name}/infer",
        f"/v2/models/act/versions/{name}/infer",
        f"/v2/repository/models/{name}/load",
    ]
    return Abuse(http(infer(), path=r.choice(paths)))


def wrong_version(r: random.Random) -> Abuse:
    version = r.choice(["0", "2", "-1", "1e0", "01x", "9" * 30, "%31%00", "¹"]).encode("utf-8").decode("latin-1")
    return Abuse(http(infer(), path=f"/v2/models/act/versions/{version}/infer"))


def wrong_method(r: random.Random) -> Abuse:
    method = r.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
    return Abuse(http(infer(), method=method))


def override(r: random.Random) -> Abuse:
    name = r.choice(["config", "file:1/model.onnx", "file:../../x", "other"])
    body = json.dumps({"parameters": {name: "value"}}).encode()
    return Abuse(http(body, path="/v2/repository/models/act/load"))


def truncated_json(r: random.Random) -> Abuse:
    body = infer()
    return Abuse(http(body[: r.randrange(1, len(body))]))


def no_json(r: random.Random) -> Abuse:
    bodies = [
        b"",
        b"null",
        b"[]",
        b"0",
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"inputs":' * 3000,
        b'{"inputs": [NaN]}',
        b"{}{}",
    ]
    return Abuse(http(r.choice(bodies)))


def bad_binary_header(r: random.Random) -> Abuse:
    length = r.choice(["-1", "x", "", "1e3", "0x10", "99999999", "9" * 40, "+5", "1 0", "1.5", "4"])
    return Abuse(http(infer(), {"Inference-Header-Content-Length": length}))


def bad_binary_size(r: random.Random) -> Abuse:
    head = _binary_head(r.choice([0, 15, 17, 2**31, 2**63, -16, "16", 1.5, True]))
    return Abuse(http(head + bytes(16), {"Inference-Header-Content-Length": str(len(head))}))


def truncated_tensor(r: random.Random) -> Abuse:
    head = _binary_head(16)
    body = head + bytes(r.choice([0, 1, 8, 15, 17, 32]))
    return Abuse(http(body, {"Inference-Header-Content-Length": str(len(head))}))


def truncated_body(r: random.Random) -> Abuse:
    """Less than Content-Length announces, then the end of the stream."""
    whole = http(infer())
    return Abuse(whole[: -r.randrange(1, 20)], range(0), closes=True)


def gigabyte(r: random.Random) -> Abuse:
    return Abuse(http(b"", {"Content-Length": str(r.choice([2**30, 2**40, 10**17]))}), closes=True)


def bad_length(r: random.Random) -> Abuse:
    return Abuse(http(b"", {"Content-Length": r.choice(["-1", "x", "1, 2", "9" * 60, "0x1"])}), closes=True)


def bad_chunks(r: random.Random) -> Abuse:
    head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return Abuse(head + r.choice([b"zz\r\n", b"-1\r\n", b"f" * 20 + b"\r\n", b"5\r\n{}{}{}{}\r\n"]), closes=True)


def bad_gzip(r: random.Random) -> Abuse:
    data = r.choice([b"plain", gzip.compress(infer())[:-8], gzip.compress(bytes(5_000_000)), b""])
    return Abuse(http(data, {"Content-Encoding": r.choice(["gzip", "deflate", "br", "gzip, gzip"])}))


def no_http(r: random.Random) -> Abuse:
    lines = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"\x00" * 64,
        b"PRI * HTTP/2.0\r\n\r\n",
    ]
    return Abuse(r.choice(lines) + b"\r\n\r\n", closes=True)


def huge_head(r: random.Random) -> Abuse:
    return Abuse(b"GET /v2 HTTP/1.1\r\nHost: h\r\nx: " + b"a" * r.randrange(400_000, 600_000), closes=True)


def noise(r: random.Random) -> Abuse:
    """A good request with some bytes of its body changed."""
    body = bytearray(infer())
    for _ in range(r.randint(1, 8)):
        body[r.randrange(len(body))] = r.randrange(256)
    return Abuse(http(bytes(body)), ANY_ANSWER)


def _binary_head(size: object) -> bytes:
    tensor = {name: FIT[name] for name in ("name", "datatype", "shape")}
    return json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": size}}]}).encode()


MAKERS: list[Callable[[random.Random], Abuse]] = [
    wrong_shape, wrong_count, wrong_type, wrong_value, wrong_batch, wrong_name, wrong_path, wrong_version,
    wrong_method, override, truncated_json, no_json, bad_binary_header, bad_binary_size, truncated_tensor,
    truncated_body, gigabyte, bad_length, bad_chunks, bad_gzip, no_http, huge_head, noise,
]  # fmt: skip
