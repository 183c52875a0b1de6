"""Run by another environment's Python, which has numpy and an onnxruntime only: FOLDER LIBRARY.

FOLDER holds models NAME.onnx, each with NAME.npz: x, the wanted y, and the error that y may have. Models
whose name begins with `bad` must be refused, with their node named.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def session(path: Path, library: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(library)
    options.register_custom_ops_library(library)  # harmless
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def refused(path: Path, library: str) -> bool:
    try:
        session(path, library)
    except Exception as error:  # noqa: BLE001 - every version raises its own
        return "act" in str(error)
    return False


def right(path: Path, library: str) -> bool:
    case = np.load(path.with_suffix(".npz"))
    y = session(path, library).run(None, {"x": case["x"]})[0]
    return y.dtype == case["x"].dtype and bool(np.all(np.abs(y.astype(np.float64) - case["y"]) <= case["error"]))


def main(folder: str, library: str) -> int:
    paths = sorted(Path(folder).glob("*.onnx"))
    wrong = [p.stem for p in paths if not (refused if p.stem.startswith("bad") else right)(p, library)]
    print(ort.__version__, len(paths), "models, wrong:", *(wrong or ["none"]))
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
