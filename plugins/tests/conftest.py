"""Makes the modules of this folder importable: tests are imported by file, not as a package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
