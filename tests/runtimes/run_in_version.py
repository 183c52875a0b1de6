"""Run with another onnxruntime ahead on the path: FOLDER LIBRARY.

FOLDER holds models NAME.onnx, each with NAME.npz: x, the wanted y, and the error that y may have. Models
whose name begins with `bad` must be refused, with their node named. The last line says, as JSON, what a
`Session` does with layout.onnx, and whether coded.onnx, in 8 bits, is prepared.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from apa_deploy.runtimes.blocking import blocking
from apa_deploy.runtimes.onnxruntime import register_operators
from apa_deploy.runtimes.session import Session


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
    return near(y, case)


def near(y: np.ndarray, case: Mapping[str, np.ndarray]) -> bool:
    return y.dtype == case["x"].dtype and bool(np.all(np.abs(y.astype(np.float64) - case["y"]) <= case["error"]))


def what_a_session_does(path: Path) -> dict[str, str]:
    """Which operators and layout; the answer must be right."""
    operators = "fused" if register_operators(ort.SessionOptions()) else "bodies"
    case = np.load(path.with_suffix(".npz"))
    with Session(path, threads=1) as open_one:
        layout = "blocked" if open_one.prepared else "plain" if blocking().size > 1 else "none here"
        (y,) = open_one.run({"input": case["x"]}).values()
    assert near(y, case), np.abs(y - case["y"]).max()
    return {"version": ort.__version__, "operators": operators, "layout": layout}


def is_coded_prepared(path: Path) -> bool:
    """The prepared model must be as close to the file as 8 bits are to float32 (25 dB)."""
    x = np.random.default_rng(2).standard_normal((4, 3, 16, 16)).astype(np.float32)
    with Session(path, threads=1) as ours, Session(path, threads=1, layout=False) as plain:
        (got,), (wanted,) = (session.run({"x": x}).values() for session in (ours, plain))
        assert np.square(got - wanted).sum() <= 10**-2.5 * np.square(wanted).sum()
        return ours.prepared is not None


def main(folder: str, library: str) -> int:
    layout, coded = (Path(folder) / name for name in ("layout.onnx", "coded.onnx"))
    paths = sorted(set(Path(folder).glob("*.onnx")) - {layout, coded})
    wrong = [p.stem for p in paths if not (refused if p.stem.startswith("bad") else right)(p, library)]
    print(ort.__version__, len(paths), "models, wrong:", *(wrong or ["none"]))
    print(json.dumps(what_a_session_does(layout) | {"coded": is_coded_prepared(coded)}))
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
