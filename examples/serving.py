"""A server and a client.  python examples/serving.py      needs: pip install 'apa-deploy[serve]'

The server speaks the Open Inference Protocol: clients of Triton and KServe work with it.
"""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress

import numpy as np
from own_network import digits, exported


@contextmanager
def server(model):
    """`apa-serve MODEL` on a free port, until the block ends; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ports = ["--http-port", port, "--grpc-port", 0, "--metrics-port", 0]
    command = [sys.executable, "-m", "apa_deploy.cli.serve", model, *ports, "--no-request-log"]
    process = subprocess.Popen(list(map(str, command)))
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"{address}/v2/health/ready"):
                break
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()  # it answers what it has accepted, then ends
        process.wait(60)


def ask(address, model, images):
    """The logits of one request; any HTTP library will do."""
    tensor = {"name": "input", "datatype": "FP32", "shape": images.shape, "data": images.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/v2/models/{model}/infer", body, headers)
    with urllib.request.urlopen(request) as answer:
        (output,) = json.load(answer)["outputs"]
    return np.reshape(output["data"], output["shape"])


if __name__ == "__main__":
    images, labels = digits()
    with server(exported()) as address:
        logits = ask(address, "own", images[-20:])
    print(f"the server labels {(logits.argmax(1) == labels[-20:]).mean():.0%} of 20 digits")
