"""Everything that needs a GPU, in one go: kernels, bandwidth, engines, parity, latency; one report.

    python -m tools.gpu_check -o report      in a checkout of apa-deploy

writes report.json and report.html after each part, and what the parts printed to report.log. A part that cannot
run is skipped, with the reason. Exit codes: 0 all parts passed; 1 one failed; 2 misuse; 3 one could not run, for
want of what the report names.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from apa_deploy.child_process import last_lines, run_limited
from apa_deploy.cli.common import run_verb, verb_parser
from apa_deploy.errors import InputError
from apa_deploy.files import refuse_existing
from apa_deploy.progress import step

from .building import ROOT
from .check import Check
from .outcome import Outcome, State, exit_code
from .page import check_page
from .parts import PARTS
from .prepared import Prepared
from .report import Report
from .time_limits import allot

_GRACE_S = 10.0  # a part ends by itself before: this is for one that cannot
_LONGEST_LOG = 1 << 20  # bytes of one part


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_verb(_parser(), _check, argv)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("gpu_check", __doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu_check"), metavar="NAME",
                        help="write NAME.json, NAME.html and NAME.log (default: gpu_check)")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace existing reports")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    parser.add_argument("--model", type=Path, help="a checkpoint of yours, instead of a random SE-ResNet50")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), default="fp16", help="of the engines")
    parser.add_argument("--sm", type=int, metavar="89", help="compile for this, not for the GPU that is here")
    parser.add_argument("--seconds", type=float, metavar="N", help="of all parts together; later ones are skipped")
    parser.add_argument(
        "--prepared", type=Path, metavar="DIR", help="programs compiled before (gpu_check.prepared)"
    )
    return parser


def _check(options: argparse.Namespace) -> int:
    if options.output.suffix:
        raise InputError(f"-o {options.output}", "a name without a suffix", "NAME.json and NAME.html are written.")
    check_page()  # before long work, not after
    if options.prepared:
        Prepared(options.prepared).check()
    report = Report(options.output, options.precision, options.model)
    for path in report.files:
        refuse_existing(path, force=options.force)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as scratch:
        prepared = options.prepared and options.prepared.resolve()
        check = Check(Path(scratch), options.sm, options.model, options.precision, prepared)
        check.save()
        _run_parts(check, [part for part in PARTS if part in options.parts], options.seconds, report)
    report.show(options.json)
    return exit_code(report.outcomes)


def _run_parts(check: Check, parts: Sequence[str], seconds: float | None, report: Report) -> None:
    """One after another, each in a process of its own; the report is written after each."""
    end = time.monotonic() + seconds if seconds else math.inf
    for number, part in enumerate(parts):
        report.write(check.folder, left=parts[number:])
        later = [PARTS[one].limit for one in parts[number + 1 :]]
        left = allot(end - time.monotonic() - _GRACE_S, PARTS[part].limit, later)
        if left < 1:
            report.outcomes.append(
                Outcome(part, State.SKIPPED, f"the {seconds:g} s are over", f"Run it alone: --parts {part}")
            )
            continue
        with step(part):
            report.outcomes.append(_run_part(check, part, left))
        log = check.folder / f"{part}.log"
        report.log += f"== {part}\n{log.read_text(encoding='utf-8', errors='replace')[-_LONGEST_LOG:]}\n"
    report.write(check.folder, left=())


def _run_part(check: Check, part: str, seconds: float) -> Outcome:
    log = check.folder / f"{part}.log"
    command = [sys.executable, "-m", "tools.gpu_check.parts", part, str(check.folder), f"{seconds:.1f}"]
    reason = run_limited(command, log, seconds + _GRACE_S)
    if not reason and (found := check.kept(part)):
        return found
    return check.failed(part, " ".join([reason, *last_lines(log, 1)]), "See its log.")


if __name__ == "__main__":
    sys.exit(main())
