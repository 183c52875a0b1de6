"""Clients that hammer a server from threads and keep what became of every request."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
from dataclasses import dataclass, field

import numpy as np
import tritonclient.grpc
from tritonclient.utils import InferenceServerException


@dataclass
class Outcome:
    """`answers`: id -> (input, output y); `refused`: ids answered with an error; `lost`: ids without an answer."""

    answers: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)


class Load:
    """HTTP and gRPC clients, each sending one row after the other; a context that stops them.

    `stays`: a client that loses a request goes on with a new connection.
    """

    def __init__(
        self, server, model: str, *, http_clients: int = 4, grpc_clients: int = 4, stays: bool = False
    ) -> None:
        self._stays = stays
        self.outcome, self._server, self._model = Outcome(), server, model
        self._stop, self._ids = threading.Event(), itertools.count(1)
        work = [self._over_http] * http_clients + [self._over_grpc] * grpc_clients
        self._threads = [threading.Thread(target=one) for one in work]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_answers(self, count: int) -> None:
        """Return when `count` requests have been answered, or no client is left."""
        while len(self.outcome.answers) < count and any(thread.is_alive() for thread in self._threads):
            self._stop.wait(0.01)

    def wait_until_refused(self) -> None:
        """Return when every client has ended, because nobody answers any more."""
        for thread in self._threads:
            thread.join(60)

    def _requests(self):
        generator = np.random.default_rng(threading.get_ident())
        while not self._stop.is_set():
            yield f"load-{next(self._ids)}", generator.standard_normal((1, 4)).astype(np.float32)

    def _over_http(self) -> None:
        connection = http.client.HTTPConnection(self._server.http, timeout=60)
        for id_, x in self._requests():
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": x.ravel().tolist()}
            body = json.dumps({"id": id_, "inputs": [tensor]})
            try:
                connection.request("POST", f"/v2/models/{self._model}/infer", body, {"X-Request-Id": id_})
                answer = connection.getresponse()
                document = json.loads(answer.read())
            except (OSError, http.client.HTTPException) as error:
                self.outcome.lost[id_] = repr(error)
                if not self._stays:
                    return
                connection.close()
                continue
            if answer.status != 200:
                self.outcome.refused[id_] = f"{answer.status} {document}"
                continue
            y = np.array(document["outputs"][0]["data"], np.float32).reshape(1, 4)
            self.outcome.answers[id_] = (x, y)

    def _over_grpc(self) -> None:
        # A client that tried again on its own would hide what became of a request.
        options = [("grpc.enable_retries", 0)]
        with tritonclient.grpc.InferenceServerClient(self._server.grpc, channel_args=options) as client:
            for id_, x in self._requests():
                tensor = tritonclient.grpc.InferInput("x", [1, 4], "FP32")
                tensor.set_data_from_numpy(x)
                try:
                    y = client.infer(self._model, [tensor], request_id=id_).as_numpy("y")
                except InferenceServerException as error:
                    said = str(error.message())  # the server's own refusals say what they want
                    refused = "; wanted " in said and "is closing" not in said
                    if "UNAVAILABLE" in str(error.status()) and not refused:
                        self.outcome.lost[id_] = str(error)
                        if self._stays:
                            continue
                        return
                    self.outcome.refused[id_] = str(error)
                    continue
                self.outcome.answers[id_] = (x, y)
