"""Plant faults in C++ sources, all of them in one build: the environment's PLANTED says which one is on.

A fault names a line and, between two @, the part of it that goes wrong:

    Fault("tail of lanes", "kernels/lanes.cuh", "channels[@k % lanes@]", "0")

becomes `channels[(planted == 7 ? (0) : (k % lanes))]`. A part that ends in a semicolon is a statement, and a
constant that must be known when compiling becomes one that is read when the program starts. With none on, the
same program must be green: that says that the switches themselves change nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

# Read once, ahead of every constant of the file that includes it first.
SWITCH = """#pragma once
#include <cstdlib>
inline const int planted = std::getenv("PLANTED") ? std::atoi(std::getenv("PLANTED")) : 0;
"""


class Fault(NamedTuple):
    name: str
    file: str  # below the folder of the copied sources
    line: str  # occurs once in it; what is between two @ goes wrong
    instead: str | Sequence[str]  # of that part; several, where several parts are marked


def plant_faults(folder: Path, faults: Iterable[Fault]) -> Path:
    """Put a switch into the copied sources for each fault, numbered from 1; returns the header to include first."""
    for number, fault in enumerate(faults, 1):
        path = folder / fault.file
        text, line = path.read_text(), fault.line.replace("@", "")
        assert text.count(line) == 1, f"{fault.file} holds {text.count(line)} times: {line}"
        path.write_text(text.replace(line, _switched(number, fault)))
    header = folder / "planted.h"
    header.write_text(SWITCH)
    return header


def _switched(number: int, fault: Fault) -> str:
    *parts, last = fault.line.split("@")
    assert parts and len(parts) % 2 == 0, f"no part between two @: {fault.line}"
    instead = [fault.instead] if isinstance(fault.instead, str) else fault.instead
    text = ""
    for before, part, other in zip(parts[::2], parts[1::2], instead, strict=True):
        if part.endswith(";"):
            text += f"{before}if (planted == {number}) {{ {other} }} else {{ {part} }}"
        else:
            text += f"{before}(planted == {number} ? ({other}) : ({part}))"
    return re.sub(r"\bconstexpr\b", "inline const", text) + last


def run_planted(program: Path, number: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program with the fault of this number on, 0 for none; a check stops where it first fails."""
    environment = {**os.environ, "PLANTED": str(number), "STOP_AT_FIRST": "1"}
    return subprocess.run([program, *arguments], capture_output=True, text=True, env=environment, timeout=100)
