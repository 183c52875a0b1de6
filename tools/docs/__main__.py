"""Build the documentation's site, every warning an error.

python -m tools.docs [-o build/site]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tools.cached_packages import cached_packages, with_packages

ROOT = Path(__file__).resolve().parents[2]


def build_site(output: Path, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Build the pages of the checkout `root` into `output`; what mkdocs printed is in the answer's stderr."""
    folder = cached_packages("docs", Path(__file__).with_name("requirements.txt"))
    # not --quiet: with it mkdocs counts no warnings, and --strict sees none
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "--site-dir", output]
    variables = with_packages(folder, NO_MKDOCS_2_WARNING="1")
    return subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, check=False)


def main() -> int:
    """Build, and say where the first page is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build" / "site")
    output = parser.parse_args().output.resolve()
    done = build_site(output)
    warnings = [line for line in done.stderr.splitlines() if not line.startswith("INFO")]
    print(*warnings, sep="\n", file=sys.stderr)
    if not done.returncode:
        print(f"open {output / 'index.html'}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
