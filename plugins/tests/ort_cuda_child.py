"""In a version of onnxruntime-gpu, on a machine without a GPU: `LIBRARY CPU_LIBRARY FOLDER`; prints what it saw.

LIBRARY is libapa_ort_cuda.so; CPU_LIBRARY holds the same operators for the CPU provider. In FOLDER lie NAME.onnx
and NAME.npz (x, y, error).
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

from apa_deploy import Session
from apa_deploy.errors import MissingError

CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]


def worst_error(library: str, path: Path) -> float:
    """Over what the case allows."""
    case, options = np.load(path.with_suffix(".npz")), ort.SessionOptions()
    options.register_custom_ops_library(library)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    y = session.run(None, {"x": case["x"]})[0].astype(np.float64)
    return float(np.max(np.abs(y - case["y"]) / case["error"]))


def answer(path: Path) -> str:
    """What is said where the model is to run on CUDA."""
    try:
        Session(path, providers=CUDA).close()
    except MissingError as error:
        return str(error)
    return "it runs"


library, cpu_library, folder = sys.argv[1:]
ort.SessionOptions().register_custom_ops_library(
    library
)  # twice, and before any session: loads, and is refused by none
ort.SessionOptions().register_custom_ops_library(library)
models = sorted(Path(folder).glob("*.onnx"))
errors = {path.stem: worst_error(cpu_library, path) for path in models}
print(json.dumps({"version": ort.__version__, "errors": errors, "answer": answer(models[0])}))
