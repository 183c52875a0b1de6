"""The GPU's clocks, temperature, power and throttle reasons, as nvidia-smi tells them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass, fields
from typing import Self

from apa_deploy.errors import MissingError

from .analysis import find_slowdowns
from .outcome import Outcome, State

# The name of the last column changed with driver r535.
_REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
_ANSWERS_S = 10
_COLUMNS = ("clocks.sm", "clocks.mem", "clocks.max.sm", "temperature.gpu", "power.draw")


@dataclass(frozen=True)
class Reading:
    """MHz, degrees Celsius, watts; `reasons`: a bit mask. None where the GPU does not tell."""

    sm_mhz: float | None
    memory_mhz: float | None
    most_sm_mhz: float | None
    celsius: float | None
    watts: float | None
    reasons: int


def read() -> Reading:
    """The first GPU, now.

    Raises:
        MissingError: nvidia-smi is absent, or does not answer.
    """
    return parse_clocks(_answer()[1])


def readable() -> Outcome:
    """Whether clocks can be read: a part of its own, so that nothing is timed without them unnoticed."""
    return Outcome("clocks", State.PASSED, rows=[asdict(read())])


def _answer() -> tuple[list[str], str]:
    """The command that this nvidia-smi takes, and its first answer."""
    program = shutil.which("nvidia-smi")
    if not program:
        raise MissingError("nvidia-smi is not in PATH", "the NVIDIA driver's own tool", "Install the driver.")
    said = ""
    for reasons in _REASONS:
        query = ",".join((*_COLUMNS, reasons))
        command = [program, f"--query-gpu={query}", "--format=csv,noheader,nounits", "--id=0"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWERS_S)
        except subprocess.TimeoutExpired as error:
            saw = f"nvidia-smi does not answer within {_ANSWERS_S} s"
            raise MissingError(saw, "a GPU that answers", "See whether nvidia-smi alone works.") from error
        if done.returncode == 0:
            return command, done.stdout
        said = (done.stdout + done.stderr).strip()
    raise MissingError(f"nvidia-smi says: {said}", "a GPU that answers", "See whether nvidia-smi alone works.")


def parse_clocks(line: str) -> Reading:
    """One line of its CSV."""
    cells = [cell.strip() for cell in line.strip().splitlines()[0].split(",")]
    *numbers, reasons = cells
    sm, memory, most, celsius, watts = map(_number, numbers)
    return Reading(sm, memory, most, celsius, watts, int(reasons, 16) if reasons[:2] == "0x" else 0)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None  # [N/A], [Not Supported]


class Watch:
    """Reads the clocks while it is entered, by one process that disturbs little; `facts` sums the readings up."""

    def __init__(self, every_ms: int = 250) -> None:
        self._every_ms, self._why_not = every_ms, ""
        self._child: subprocess.Popen[bytes] | None = None
        self._lines = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed on exit
        self.readings: list[Reading] = []

    def __enter__(self) -> Self:
        try:
            command, _ = _answer()
        except MissingError as error:
            self._why_not = error.saw
            return self
        self._child = subprocess.Popen([*command, f"--loop-ms={self._every_ms}"], stdout=self._lines)
        return self

    def __exit__(self, *_: object) -> None:
        if self._child:
            self._child.terminate()
            self._child.wait()
            self._lines.seek(0)
            whole = [line for line in self._lines if line.endswith("\n") and line.count(",") == len(_COLUMNS)]
            self.readings = [parse_clocks(line) for line in whole]
        self._lines.close()

    def facts(self) -> dict[str, object]:
        """Least and largest of each figure, and what slowed the clocks; or why they were not read."""
        if self._why_not or not self.readings:
            return {"not read": self._why_not or "the measurement was too short"}
        names = [field.name for field in fields(Reading) if field.name != "reasons"]
        reasons = find_slowdowns([reading.reasons for reading in self.readings])
        spans = {name: self._span(name) for name in names}
        return spans | {"slowed down by": reasons, "readings": len(self.readings)}

    def _span(self, name: str) -> list[float] | None:
        values = [value for reading in self.readings if (value := getattr(reading, name)) is not None]
        return [min(values), max(values)] if values else None
