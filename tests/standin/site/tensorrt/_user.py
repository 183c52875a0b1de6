"""What the program under test derives from."""

from __future__ import annotations

from typing import Any

from ._contract import Checked, enums

Severity = enums()["Severity"]


class ILogger(Checked):
    Severity = Severity

    def __init__(self, min_severity: Any = Severity.WARNING) -> None:
        self._least = min_severity


for _severity in Severity:
    setattr(ILogger, _severity.name, _severity)


class Logger(ILogger):
    def log(self, severity: Any, message: str) -> None:
        if severity <= self._least:
            print(message)


class IProgressMonitor(Checked):
    def __init__(self) -> None:
        self._derived = True


class IOutputAllocator(Checked):
    def __init__(self) -> None:
        self._derived = True


class IDebugListener(Checked):
    def __init__(self) -> None:
        self._derived = True
