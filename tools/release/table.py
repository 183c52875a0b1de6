"""The table of a release: sizes, errors, ratios, launches, conformance; and what of it became worse.

python -m tools.release.table FOLDER [-o FILE]      measures what FOLDER (of `make release`) holds
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT / "releases"
Values = Mapping[str, float]


class Rule(NamedTuple):
    """How a value may change: names that begin so, whether less is better, by which share it may be worse."""

    begins: str
    less_is_better: bool
    share: float


RULES = (
    Rule("bytes_", True, 0.05),
    Rule("ulp_", True, 0.25),  # a grid of inputs: exact on one machine, other vector units differ in the last bits
    Rule("max_rel_", True, 1.0),  # of roundings: twice as large is another algorithm
    Rule("ratio_", True, 0.3),  # of times in one run, on a machine that may be shared
    Rule("launches_", True, 0.0),
    Rule("conformance_", False, 0.0),
)


def find_losses(new: Values, old: Values, changes: str) -> list[str]:
    """A line for each value that is worse, or gone, and that `changes` does not name in backquotes."""
    losses = []
    for name, before in old.items():
        rule = next(rule for rule in RULES if name.startswith(rule.begins))
        worst = before * (1 + rule.share if rule.less_is_better else 1 - rule.share)
        now = new.get(name)
        if now is None:
            seen = "is not measured any more"
        elif (now > worst) if rule.less_is_better else (now < worst):
            seen = f"is {now:g}"
        else:
            continue
        if f"`{name}`" not in changes:
            losses.append(f"{name} {seen}; it was {before:g}, and {worst:g} is allowed")
    return losses


def changes_of(release: str) -> str:
    """The changelog's section of a release; "" if it has none."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {re.escape(release)}(?=\s).*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return section[0] if section else ""


def last_table(before: str) -> dict[str, float]:
    """The values of the newest committed table that is not of the release `before`; {} if there is none."""
    from packaging.version import Version

    tables = {Version(path.stem): path for path in TABLES.glob("*.json") if path.stem != before}
    return json.loads(tables[max(tables)].read_text())["values"] if tables else {}


def measure(folder: Path) -> dict[str, object]:
    """The table of the files in `folder`, with the machine and the versions that it was measured with."""
    values = {**sizes(folder), **errors(), **kernel_errors(), **operator_ratios(), **launches()}
    passed = re.search(r"\*\*(\d+)\*\*", (ROOT / "docs" / "conformance.md").read_text())
    values["conformance_passed"] = int(passed[1]) if passed else 0
    packages = ("torch", "onnx", "onnxruntime", "numpy")
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    return {"values": values, "measured_with": machine | {name: version(name) for name in packages}}


def sizes(folder: Path) -> dict[str, float]:
    """Bytes of the wheel, of the native libraries inside, and of the source distribution."""
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        inside = {Path(one.filename).name: one.file_size for one in archive.infolist()}
    names = ("libapa_ort.so", "libapa_ort_cuda.so", "libapa_trt.so", "apa_aot.ptx")
    libraries = {name: inside[name] for name in names}
    found = {"wheel": wheel.stat().st_size, "sdist": source.stat().st_size, **libraries}
    return {f"bytes_{name}": size for name, size in found.items()}


def errors() -> dict[str, float]:
    """Largest relative error of the digits network's logits, by format."""
    from apa_exporters.onnx.export import export_onnx
    from apa_exporters.onnx.options import FORMATS, OnnxOptions

    from apa_deploy import load

    found, model = {}, load(ROOT / "examples" / "digits" / "digits.pth")
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            parity = export_onnx(model, Path(folder, f"{name}.onnx"), OnnxOptions(format=name)).parity
            found[f"max_rel_digits_{name}"] = max(output.max_rel for output in parity.outputs)  # type: ignore[union-attr]
    return found


def kernel_errors() -> dict[str, float]:
    """Largest error of each CPU kernel, in units of its contract: ulp / (2 + |log2 APA|), of `pw` 2^-23."""
    import numpy as np
    import onnx

    from benchmarks.kernel_error import KERNELS, errors, model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gates.onnx")
        onnx.save(model(), path)
        return {f"ulp_{kernel}": round(float(np.nanmax(errors(path, kernel))), 3) for kernel in KERNELS}


def operator_ratios() -> dict[str, float]:
    """Time of the fused operator beside ONNX Runtime's QuickGelu, the median over rounds, by shape."""
    from benchmarks.kernels import OPERATORS, operators

    ours, theirs = OPERATORS
    return {
        f"ratio_{re.sub(r'[^0-9]+', 'x', shape).strip('x')}": round(
            median(a / b for a, b in zip(times[ours], times[theirs], strict=True)), 3
        )
        for shape, times in operators(5, 0.3).items()
    }


def launches() -> dict[str, float]:
    """Kernel launches of fp16 engines of TensorRT for RTX, the activations in the form that is exported."""
    command = [sys.executable, "-m", "benchmarks.rtx_launches", "--precision", "fp16", "--json"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    rows = [row for row in json.loads(done.stdout) if row["form"] == "AGLU, anl"]
    return {
        f"launches_{row['network'].split(',')[0].lower().replace('-', '_')}": sum(row["launches"].values())
        for row in rows
    }


def main() -> int:
    """Measure, write, compare: 1 where a loss is not explained."""
    from apa_deploy import __version__

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="(default: FOLDER/table.json)")
    options = parser.parse_args()
    table = {"version": __version__, **measure(options.folder)}
    output = options.output or options.folder / "table.json"
    output.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    losses = find_losses(table["values"], last_table(__version__), changes_of(__version__))  # type: ignore[arg-type]
    for loss in losses:
        print(f"worse than the last release: {loss}")
    if losses:
        print(f"Mend it, or explain it in CHANGELOG.md below '## {__version__}', with the name in backquotes.")
    return bool(losses)


if __name__ == "__main__":
    sys.exit(main())
