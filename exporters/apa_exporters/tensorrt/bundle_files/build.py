#!/usr/bin/env python3
"""Build, judge and time the engine of this bundle: python3 build.py --help"""

import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - not the Python of the project
    sys.exit("error: Python 3.10 or later is wanted.")
sys.dont_write_bytecode = True
FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

from apa_target.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(FOLDER))
