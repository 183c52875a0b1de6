"""Child process: run a TensorRT for RTX engine on this machine's GPU, through Polygraphy.

    python -P execute.py ENGINE FEEDS.npz OUTPUTS.npz

FEEDS.npz holds arrays "i/name", the i-th feed's input `name`; OUTPUTS.npz likewise the outputs, in float32.
"""

from __future__ import annotations

import os
import sys

import numpy as np


def main(engine: str, feeds: str, outputs: str) -> None:
    """Run every feed once."""
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1"  # read when Polygraphy is imported
    from polygraphy.backend.common import BytesFromPath
    from polygraphy.backend.trt import EngineFromBytes, TrtRunner

    found: dict[str, np.ndarray] = {}
    with TrtRunner(EngineFromBytes(BytesFromPath(engine))) as runner:
        for i, feed in enumerate(read_numbered(feeds)):
            values = runner.infer(feed, copy_outputs_to_host=True)
            found |= {f"{i}/{name}": np.asarray(value).astype(np.float32) for name, value in values.items()}
    np.savez(outputs, **found)  # type: ignore[arg-type]


def read_numbered(path: str) -> list[dict[str, np.ndarray]]:
    """The feeds, or outputs, of such a file, in order."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    count = 1 + max(int(key.split("/")[0]) for key in arrays)
    return [{k.split("/", 1)[1]: v for k, v in arrays.items() if k.startswith(f"{i}/")} for i in range(count)]


if __name__ == "__main__":
    main(*sys.argv[1:4])
