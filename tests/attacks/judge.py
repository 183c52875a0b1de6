"""Child process: feed every file of a folder to the verb that reads its kind; what came of it, the peak memory."""

import contextlib
import io
import json
import resource
import sys
from pathlib import Path

from apa_exporters.cli import main

import apa_deploy.cli.doctor
from tests.attacks.graphs import good

MODEL = Path("good.onnx")


def run(path: Path) -> int:
    """Arrays and class names go with a model that is good; passports to apa-doctor."""
    if path.suffix == ".json":
        return apa_deploy.cli.doctor.main([str(path)])
    more = {".npz": "--inputs", ".txt": "--labels"}.get(path.suffix)
    return main([str(MODEL), more, str(path), "-o", "out.onnx"] if more else [str(path), "-o", "out.onnx"])


def judged(path: Path) -> dict[str, object]:
    said = io.StringIO()
    before = set(Path().iterdir())
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = run(path)
    return {"code": code, "said": said.getvalue(), "left": sorted(map(str, set(Path().iterdir()) - before))}


if __name__ == "__main__":
    MODEL.write_bytes(good().SerializeToString())
    files = sorted(Path(sys.argv[1]).iterdir())
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = {path.stem: judged(path) for path in files}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
    print(json.dumps({"results": results, "grown_kib": grown}))
