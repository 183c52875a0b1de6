"""Child process: run a TensorRT for RTX engine on this machine's GPU, through `Session`'s runner.

    python -P execute.py ENGINE FEEDS.npz OUTPUTS.npz

FEEDS.npz holds arrays "i/name", the i-th feed's input `name`; OUTPUTS.npz likewise the outputs, in float32.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def main(engine: str, feeds: str, outputs: str) -> None:
    """Run every feed once."""
    from apa_deploy.runtimes.engine_trust import Trust
    from apa_deploy.runtimes.tensorrt import TensorRTRunner

    runner = TensorRTRunner(Path(engine), Trust(engine=True), cuda_graph=False)  # made a moment ago by the parent
    found: dict[str, np.ndarray] = {}
    for i, feed in enumerate(read_numbered(feeds)):
        found |= {f"{i}/{name}": value.astype(np.float32) for name, value in runner.run(feed).items()}
    runner.close()
    np.savez(outputs, **found)  # type: ignore[arg-type]


def read_numbered(path: str) -> list[dict[str, np.ndarray]]:
    """The feeds, or outputs, of such a file, in order."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    count = 1 + max(int(key.split("/")[0]) for key in arrays)
    return [{k.split("/", 1)[1]: v for k, v in arrays.items() if k.startswith(f"{i}/")} for i in range(count)]


if __name__ == "__main__":
    main(*sys.argv[1:4])
