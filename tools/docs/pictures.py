"""Draw the pictures of the documentation: docs/pictures/*.svg, for light and dark.

    python -m tools.docs.pictures            # activations.svg, architecture.svg
    python -m tools.docs.pictures --demo     # demo.svg as well: runs examples/digits/demo.py, about a minute
    python -m tools.docs.pictures --report   # report.png as well, of docs/pictures/report.json; needs Chromium

Tests compare the pictures with what this script draws. The demo's times depend on the machine, so the picture has
none.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from apa_deploy.maths import apa_float64
from apa_deploy.report import read_report, write_report
from apa_deploy.report.drawing import Palette, svg_of

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
LAMBDAS = (0.0, 0.1, 0.5, 1.0, 4.0)
COLUMNS = 100
SCREEN = 1100, 1000
_SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
# lines of text, column and row, whether it stands out
BOXES = (
    ("checkpoint|.pth, .safetensors", 0, 0, False),
    ("your module|--model, .pt2", 1, 0, False),
    ("ONNX file|of any exporter", 2, 0, False),
    ("Network|its float64 results are the reference", 1, 1, True),
    ("canonical ONNX|one com.apa node per activation", 1, 2, True),
    ("ONNX, OpenVINO", 0, 3, False),
    ("TensorRT|and TensorRT for RTX", 1, 3, False),
    ("Triton repository", 2, 3, False),
    ("the gate|every output and every activation|is compared with float64", 1, 4, True),
    ("model and passport|for Session, apa-serve,|apa-bench, apa-verify", 1, 5, False),
)
ARROWS = ((0, 3), (1, 3), (2, 3), (3, 4), (4, 5), (4, 6), (4, 7), (5, 8), (6, 8), (7, 8), (8, 9))
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 222, 66, 24, 36


def colours() -> str:
    """The colours of the reports' page, light and dark, as CSS."""
    css = (ROOT / "apa_deploy" / "report" / "templates" / "style.css").read_text(encoding="utf-8")
    return css[: css.index("* { box-sizing")].replace("color-scheme: light dark;", "").strip()


def activations() -> str:
    """APA and AGLU for several lambda at kappa 1."""
    z = np.linspace(-6, 6, 241)

    def draw_one(kind: str) -> Any:
        def draw(axes: Any, palette: Palette) -> None:
            for lambda_, color in zip(LAMBDAS, palette.series, strict=False):
                gate = apa_float64(z, lambda_, 1.0)
                axes.plot(z, gate * z if kind == "AGLU" else gate, color=color, label=f"lambda {lambda_:g}")
            axes.set(title=f"{kind}, kappa 1", xlabel="z", xlim=(-6, 6))
            axes.legend(loc="upper left")

        return draw

    parts = []
    for i, kind in enumerate(("APA", "AGLU")):
        svg = svg_of(draw_one(kind), kind, f"{kind} of z")
        width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()  # type: ignore[union-attr]
        place = f'<svg x="{i * float(width):g}" width="{width}" height="{height}"'
        parts.append(svg.replace("<svg", place, 1))
    return _svg(2 * float(width), float(height), "APA and AGLU for several lambda", "".join(parts))


def architecture() -> str:
    """From a file to a verified artifact."""
    parts = []
    for start, end in ARROWS:
        (_, *upper, _), (_, *lower, _) = BOXES[start], BOXES[end]
        (x1, y1), (x2, y2) = _place(*upper), _place(*lower)
        x1, y1, x2, y2 = x1 + _WIDTH // 2, y1 + _HEIGHT, x2 + _WIDTH // 2, y2 - 8
        middle = (y1 + y2) // 2
        curve = f"M{x1},{y1} C{x1},{middle} {x2},{middle} {x2},{y2}"
        parts.append(f'<path d="{curve}" class="arrow" marker-end="url(#tip)"/>')
    for text, column, row, strong in BOXES:
        left, top = _place(column, row)
        box = f'x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" rx="9" class="{"strong" * strong}"'
        parts.append(f"<rect {box}/>")
        lines = text.split("|")
        for i, line in enumerate(lines):
            y = top + _HEIGHT / 2 + 5 + (i - (len(lines) - 1) / 2) * 18
            place = f'x="{left + _WIDTH / 2:g}" y="{y:g}" class="{"small" if i else "name"}"'
            parts.append(f"<text {place}>{escape(line)}</text>")
    style = (
        "rect { fill: var(--card); stroke: var(--line); stroke-width: 1.5 } rect.strong { stroke: var(--accent) } "
        "text { fill: var(--ink); text-anchor: middle; font-size: 13px } text.name { font-weight: 600 } "
        "text.small { fill: var(--muted); font-size: 11.5px } .arrow { fill: none; stroke: var(--muted) }"
    )
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="2" refY="4" markerWidth="8" markerHeight="8" orient="auto">' \
          '<path d="M0,0 L8,4 L0,8 Z" fill="var(--muted)"/></marker>'  # fmt: skip
    width, height = _place(3, 6)
    return _svg(width - _GAP_X + 10, height - _GAP_Y + 10, "From a file to a verified artifact",
                f"<style>{style}</style><defs>{tip}</defs>" + "".join(parts))  # fmt: skip


def _place(column: int, row: int) -> tuple[int, int]:
    return 10 + column * (_WIDTH + _GAP_X), 10 + row * (_HEIGHT + _GAP_Y)


def record_demo(folder: Path) -> list[str]:
    """The lines that the demo prints, run in `folder`: without times, and of its long table the first rows."""
    variables = os.environ | {"COLUMNS": str(COLUMNS), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, ROOT / "examples" / "digits" / "demo.py"]
    done = subprocess.run(
        command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    lines, rows = ["$ make demo"], 0
    for line in re.sub(r"\d+\.\d+(?= m?s\b)", lambda time: "-" * len(time[0]), done.stdout).splitlines():
        rows = rows + 1 if line.startswith("│ layer") else 0
        if rows <= 4:
            lines.append(line)
        elif rows == 5:
            lines.append(re.sub(r"[^│ ]+", lambda word: "...".ljust(len(word[0])), line))
    return lines


def terminal(lines: Sequence[str]) -> str:
    """A terminal in which the lines appear one by one; whoever wants no motion sees all of them."""
    step, pitch, top = 8.2, 17, 46
    texts = [
        f'<text x="16" y="{top + i * pitch}" textLength="{len(line) * step:g}" lengthAdjust="spacingAndGlyphs" '
        f'style="animation-delay:{0.25 * i:.2f}s">{escape(line)}</text>'
        for i, line in enumerate(line.rstrip() for line in lines)
        if line
    ]
    style = (
        ".screen { fill: #14171f } text { fill: #d8dce6; font: 13px ui-monospace, 'DejaVu Sans Mono', monospace; "
        "white-space: pre; animation: show .2s both } @keyframes show { from { opacity: 0 } to { opacity: 1 } } "
        "@media (prefers-reduced-motion: reduce) { text { animation: none } }"
    )
    dots = "".join(f'<circle cx="{20 + 18 * i}" cy="18" r="5.5" fill="{c}"/>'
                   for i, c in enumerate(("#e0605a", "#d9a93f", "#5aad52")))  # fmt: skip
    width, height = 32 + COLUMNS * step, top + len(lines) * pitch
    screen = f'<rect class="screen" width="{width:g}" height="{height:g}" rx="9"/>{dots}'
    return _svg(width, height, "The demo in a terminal", f"<style>{style}</style>{screen}{''.join(texts)}")


def _svg(width: float, height: float, title: str, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" font-family="{_SANS}">'
        f"<title>{escape(title)}</title><style>{colours()}</style>{body}</svg>\n"
    )


def report_page(folder: Path) -> Path:
    """The committed report of `apa-verify examples/digits/digits.pth digits.onnx` as a page in `folder`."""
    path = folder / "report.html"
    write_report(read_report(PICTURES / "report.json"), path)
    return path


def describe_page(page: Path) -> str:
    """A hash of what a page shows and of its style; of drawings their words, as processors round their lines."""
    drawing = re.compile(r"<svg.*?</svg>", re.DOTALL)
    text = drawing.sub(
        lambda svg: " ".join(re.findall(r">([^<>]+)</text>", svg[0])), page.read_text(encoding="utf-8")
    )
    return hashlib.sha256(text.encode()).hexdigest()


def photograph_report(target: Path) -> None:
    """The top of the page as a PNG, which keeps the page's hash as the text `page`."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from tests.report.chromium import Chromium

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page = report_page(folder)
        with Chromium(folder / "profile") as browser:
            browser.open(page, *SCREEN, "light")
            picture = Image.open(io.BytesIO(browser.screenshot())).convert("RGB").crop((0, 0, *SCREEN))
        about = PngInfo()
        about.add_text("page", describe_page(page))
        picture.quantize(128).save(target, optimize=True, pnginfo=about)


def comparable(svg: str) -> str:
    """What has to be the same in two pictures of one demo: not numbers, nor how far they push their line."""
    texts = re.findall(r">([^<>]+)</text>", svg)
    return "\n".join(re.sub(r"\d[\d.e+-]*|-+|\s+|[─━]+", "#", text) for text in texts)


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", action="store_true", help="run the demo and draw it too")
    parser.add_argument("--report", action="store_true", help="photograph the report too")
    options = parser.parse_args()
    if options.report:
        photograph_report(PICTURES / "report.png")
        print("docs/pictures/report.png")
    drawn = {"activations": activations(), "architecture": architecture()}
    if options.demo:
        with tempfile.TemporaryDirectory() as folder:
            drawn["demo"] = terminal(record_demo(Path(folder)))
    for name, svg in drawn.items():
        (PICTURES / f"{name}.svg").write_text(svg, encoding="utf-8")
        print(f"docs/pictures/{name}.svg")


if __name__ == "__main__":
    main()
