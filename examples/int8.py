"""8 bits: calibrate on samples, compare accuracy.  python examples/int8.py"""

import numpy as np
from own_network import digits, exported

import apa_deploy

if __name__ == "__main__":
    images, labels = digits()
    np.savez("samples.npz", input=images[:-100])  # what the network sees in use; no labels needed
    files = {
        "float32": exported("--format", "onnx-custom", name="own.custom.onnx"),
        "8 bits": exported("--precision", "int8", "--calibration", "samples.npz", name="own.int8.onnx"),
    }
    for name, path in files.items():
        with apa_deploy.Session(path) as session:
            right = session.run({"input": images[-100:]})["logits"].argmax(1) == labels[-100:]
        print(f"{name}: {right.mean():.0%} of 100 unseen digits, {path.stat().st_size:,} bytes")
