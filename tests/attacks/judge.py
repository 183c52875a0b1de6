"""Child process: feed every file of a folder to `apa-export`; print what came of it, and the peak memory."""

import contextlib
import io
import json
import resource
import sys
from pathlib import Path

from apa_exporters.cli import main


def judged(path: Path) -> dict[str, object]:
    said = io.StringIO()
    before = set(Path().iterdir())
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = main([str(path), "-o", "out.onnx"])
    return {"code": code, "said": said.getvalue(), "left": sorted(map(str, set(Path().iterdir()) - before))}


if __name__ == "__main__":
    files = sorted(Path(sys.argv[1]).iterdir())
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = {path.stem: judged(path) for path in files}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
    print(json.dumps({"results": results, "grown_kib": grown}))
