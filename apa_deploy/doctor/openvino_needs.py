"""An OpenVINO model: its weights beside it, OpenVINO, and does that take it?"""

from __future__ import annotations

from pathlib import Path

from ..errors import ApaError
from ..records.passport import passport_path
from ..require import PACKAGES
from ..runtimes.openvino import weights_path
from ..runtimes.session import Session
from .facts import MachineFacts
from .finding import Finding, FindingState, check_need
from .passport_needs import own_passport, passport_findings


def openvino_findings(path: Path, facts: MachineFacts) -> list[Finding]:
    """What the model at `path` needs."""
    weights = weights_path(path)
    here = f"{weights.stat().st_size} bytes" if weights.is_file() else "not there"
    version, package = facts.version_of("openvino"), PACKAGES["openvino"]
    found = [
        check_need(
            "OpenVINO", package.versions, version or "not installed", version is not None, f"Run: {package.add}"
        ),
        check_need(
            "weights", f"{weights.name} beside the model", here, weights.is_file(), "Copy both files together."
        ),
    ]
    if passport_path(path).is_file():
        passport, vouched = own_passport(path)
        found.append(vouched)
        if passport:
            found += [f for f in passport_findings(path.parent, passport) if path.name not in f.wanted]
    if any(finding.state is FindingState.MISSING for finding in found):
        return found
    topic, wanted = "loading", "OpenVINO takes the model"
    try:
        Session(path, threads=1).close()
    except ApaError as error:
        return [*found, Finding(topic, wanted, error.saw, FindingState.MISSING, error.do)]
    return [*found, Finding(topic, wanted, wanted)]
