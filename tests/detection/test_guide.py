"""docs/detectors.md as it is read: the picture's way through an exported detector."""

import re
from pathlib import Path

from apa_exporters.cli import main

from tests.detection.test_export import save

GUIDE = Path(__file__).parents[2] / "docs" / "detectors.md"


def test_guide_finds_what_it_promises(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "detector.pth", "coco")
    assert main(["detector.pth", "-o", "detector.onnx", "--no-verify"]) == 0
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S)
    capsys.readouterr()
    exec(compile(code, str(GUIDE), "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(line.endswith("pixels") for line in lines)
