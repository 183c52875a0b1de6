"""On a small device, such as an aarch64 board, with ONNX Runtime and NumPy alone.

    pip install onnxruntime numpy                   # there: neither torch nor apa-deploy
    scp own.onnx own.onnx.passport.json edge_device.py board:
    python edge_device.py own.onnx

It checks that the file arrived whole, runs it, and measures the time. The file has standard operators only.
"""

import hashlib
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime


def check(model):
    """Stop if a file of the passport is absent or changed."""
    for record in json.loads(Path(f"{model}.passport.json").read_text())["outputs"]:
        file = model.with_name(record["name"])
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != record["sha256"]:
            sys.exit(f"{file} is absent or not the file that was verified: copy it again")


if __name__ == "__main__":
    model = Path(sys.argv[1])
    check(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # leave the other cores to the application
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    first = session.get_inputs()[0]
    sizes = [size if isinstance(size, int) else 1 for size in first.shape]
    if len(sizes) == 4 and sizes[2:] == [1, 1]:  # open height and width
        sizes[2:] = map(int, sys.argv[2].split("x")) if len(sys.argv) > 2 else (8, 8)
    feed = {first.name: np.random.default_rng(0).random(sizes, np.float32)}
    times = []
    for _ in range(50):
        start = time.perf_counter()
        answer = session.run(None, feed)[0]
        times.append((time.perf_counter() - start) * 1e3)
    assert np.isfinite(answer).all()
    print(f"{platform.machine()}: answers {answer.shape}, median {statistics.median(times):.3f} ms of 50 runs")
