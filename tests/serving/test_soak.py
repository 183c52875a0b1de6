"""A shortened soak: good load, bad requests, clients that go, and reloads together; nothing grows or goes wrong."""

import asyncio
import socket
import time

import numpy as np
from abuse import requests
from load import Load
from serving_models import TOLERANCE, small_model, truth
from serving_process import ServerProcess
from socket_clients import wait_until
from test_malformed import send_all

ROUNDS = 6
SECONDS = 2.5

# Python and malloc settle in the first third. After it, a leak of 1 KiB a request or 100 KiB a reload would show:
# some 4,000 requests and 4 reloads follow.
GROWTH = 4_000_000


def round_of_everything(server, path, kappa, seed):
    """Bad requests, clients that leave in the middle, and a reload."""
    end = time.monotonic() + SECONDS
    small_model(path.with_name(".new"), kappa=kappa).replace(path)
    while time.monotonic() < end:
        assert asyncio.run(send_all(server.http, requests(23 * 4, seed))) == []
        host, port = server.http.split(":")
        for _ in range(10):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(b"POST /v2/models/act/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 500\r\n\r\n{")
        seed += 1000


def test_soak(tmp_path):
    path = small_model(tmp_path / "act.onnx")
    sizes = []
    with ServerProcess(tmp_path, "--max-batch", 8, "--reload-interval", 0.1, "--max-request-mib", 1) as server:
        with Load(server, "act", http_clients=2, grpc_clients=2) as load:
            for at in range(ROUNDS):
                round_of_everything(server, path, [2.0, 1.0][at % 2], seed=at)
                sizes.append((server.memory(), server.descriptors()))
        assert server.alive()
        assert not load.outcome.lost
        assert not load.outcome.refused
        for x, y in load.outcome.answers.values():
            close = [np.allclose(y, truth(x, kappa)["y"], rtol=0, atol=TOLERANCE) for kappa in (1.0, 2.0)]
            assert any(close)
        assert not server.events("fault")
        assert len([e for e in server.events("loaded") if e.get("reload")]) >= ROUNDS - 1
        settled = sizes[ROUNDS // 3 - 1]
        assert sizes[-1][0] - settled[0] < GROWTH, sizes
        assert sizes[-1][1] <= settled[1] + 16, sizes  # connections of the abuse that are just being closed
        wait_until(lambda: server.metric("apa_pending_bytes") == 0)  # the last that left may just be noticed
        assert server.stop() == 0
