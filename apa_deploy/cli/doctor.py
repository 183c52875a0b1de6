"""`apa-doctor`: what a file or this machine needs, what is here, and the command that closes the gap.

Exit codes: 0 nothing is missing (without FILE: always); 2 the file is damaged or unknown; 3 something is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..doctor.facts import MachineFacts, gather_facts
from ..doctor.finding import Finding, FindingState
from ..doctor.known_errors import Explained, explain_errors
from ..doctor.machine_findings import machine_findings
from ..errors import InputError
from ..terminal import Terminal
from .common import print_json, run_verb, verb_parser, wide_console

if TYPE_CHECKING:
    from ..doctor.examination import Examination

_MARKS = {FindingState.OK: "ok     ", FindingState.NOTE: "note   ", FindingState.MISSING: "MISSING"}
_MISSING = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `apa-doctor`; returns the exit code."""
    return run_verb(_parser(), _doctor, argv)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("apa-doctor", __doc__ or "")
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="engine, .onnx or passport")
    parser.add_argument(
        "--error", metavar="TEXT|-", help="explain an error message; - reads it from standard input"
    )
    return parser


def _doctor(options: argparse.Namespace) -> int:
    if options.error is not None:
        return _explain(options)
    facts = gather_facts()
    if options.file is None:
        _show(
            {"machine": _machine(facts), "findings": _as_json(machine_findings(facts))}, facts, None, options.json
        )
        return 0
    from ..doctor.examination import examine

    examination = examine(options.file, facts)
    document = {
        "file": options.file.name,
        "kind": examination.kind,
        "ready": examination.ready,
        "machine": _machine(facts),
        "findings": _as_json(examination.findings),
    }
    _show(document, facts, examination, options.json)
    return 0 if examination.ready else _MISSING


def _show(document: dict[str, Any], facts: MachineFacts, examination: Examination | None, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    console = wide_console()
    console.print(f"apa-doctor on {facts.system}, Python {facts.python}")
    findings = examination.findings if examination else machine_findings(facts)
    if examination:
        console.print(f"{examination.file}: {examination.kind}")
    for finding in findings:
        _print_finding(console, finding)
    if examination:
        console.print("ready to run here" if examination.ready else "not ready to run here")


def _print_finding(console: Terminal, finding: Finding) -> None:
    wanted = "" if finding.state is FindingState.OK else f"; wanted {finding.wanted}"
    console.print(f"{_MARKS[finding.state]}  {finding.topic}: {finding.here}{wanted}")
    if finding.do:
        console.print(f"         {finding.do}")


def _machine(facts: MachineFacts) -> dict[str, Any]:
    return {
        "python": facts.python,
        "system": facts.system,
        "packages": dict(facts.packages),
        "driver_cuda": ".".join(map(str, facts.driver)) if facts.driver else None,
        "gpus": [asdict(gpu) for gpu in facts.gpus],
    }


def _as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [asdict(finding) for finding in findings]


def _explain(options: argparse.Namespace) -> int:
    if options.file is not None:
        raise InputError("FILE and --error", "one of the two", "Ask twice.")
    found = explain_errors(sys.stdin.read() if options.error == "-" else options.error)
    if not found:
        raise InputError(
            "an error message that is not known",
            "one of those in the table of docs/doctor.md",
            "Collect the whole log (the first error in it, not the last), the command, and what apa-doctor --json "
            "and apa-doctor FILE print. Look for the first error's words in the issues of the library it names.",
        )
    if options.json:
        print_json([asdict(one) for one in found])
    else:
        _print_explained(found)
    return 0


def _print_explained(found: Sequence[Explained]) -> None:
    console = wide_console()
    for one in found:
        for line in (f"{one.name}: {one.seen}", f"  cause: {one.cause}", f"  do: {one.do}"):
            console.print(line)
        if one.threads:
            console.print(f"  reported in {', '.join(one.threads)}")
