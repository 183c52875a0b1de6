"""Rewrite corpus files with the simplifiers that people run before they deploy: onnxslim, onnxsim.

python tests/graph/corpus/simplify.py FILE...         writes slim-FILE and sim-FILE beside each
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import onnxsim
import onnxslim

if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        onnx.save(onnxslim.slim(onnx.load(path)), path.with_name("slim-" + path.name))
        onnx.save(onnxsim.simplify(onnx.load(path))[0], path.with_name("sim-" + path.name))
