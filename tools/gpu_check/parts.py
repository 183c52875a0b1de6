"""The parts of the check. Each runs in a process of its own, so that one that crashes or hangs costs no other:

python -m tools.gpu_check.parts NAME FOLDER SECONDS      FOLDER: that of a `Check`, where the outcome goes
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from apa_deploy.errors import MissingError

from . import building, programs
from .check import Check
from .outcome import Outcome, outcome_of
from .prepared import Prepared
from .time_limits import Deadline, Limit


@dataclass(frozen=True)
class Part:
    """What it does, and for how long."""

    run: Callable[[Check], Outcome]
    limit: Limit


def _clocks(check: Check) -> Outcome:
    from .clocks import readable

    return readable()


def _driver(check: Check) -> Outcome:
    from .driver import check_driver

    return check_driver()


def _plugin(check: Check) -> Outcome:
    from .kernels import check_plugin

    return check_plugin(check.plugin(), check.architecture())


def _library(check: Check) -> Outcome:
    from .library import drive_library

    program, capability = check.programs()["trt_on_device_test"], programs.capability() or check.architecture()
    named = {"APA_TRT_LIBRARY": check.plugin()}
    return drive_library("library", program, named, check.folder, capability, check.keep, check.deadline)


def _operators(check: Check) -> Outcome:
    from .library import drive_library

    programs_ = check.programs()
    if building.OPERATORS not in programs_:
        building.fetch("onnxruntime_headers.py")  # raises what is missing
    named, capability = {"APA_ORT_LIBRARY": check.operators()}, programs.capability() or check.architecture()
    program = programs_[building.OPERATORS]
    return drive_library("operators", program, named, check.folder, capability, check.keep, check.deadline)


def _plan(check: Check) -> Outcome:
    from .plan import check_plan_kernels

    return check_plan_kernels(Prepared(check.prepared).plan if check.prepared else None, check.keep)


def _exhaustive(check: Check) -> Outcome:
    from .exhaustive import check_every_float

    return check_every_float(check.programs()["exhaustive"], check.folder, deadline=check.deadline)


def _kernels(check: Check) -> Outcome:
    from .kernels import run_kernel_suites

    return run_kernel_suites(check.programs(), check.folder, check.keep, check.deadline)


def _bandwidth(check: Check) -> Outcome:
    from .kernels import bandwidth

    return bandwidth(check.programs()["bandwidth"], check.folder, check.deadline)


def _chain(check: Check) -> Outcome:
    from .chain import measure_chains

    return measure_chains(check.programs()["chain"], check.folder, deadline=check.deadline)


def _onnxruntime(check: Check) -> Outcome:
    from .ort import check_operators

    return check_operators(check.operators, keep=check.keep)


def _torch(check: Check) -> Outcome:
    from .beside import check_torch

    return check_torch(keep=check.keep)


def _engines(check: Check) -> Outcome:
    from apa_deploy.loading.load import load

    from . import engines

    engines.check_machine()
    model = load(check.model) if check.model else engines.default_model()
    wanted = engines.Wanted(check.precision, plugin=check.plugin())
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr)  # noqa: E731

    def keep(outcome: Outcome, built: dict[str, Path]) -> None:
        document = {"engines": {name: str(path) for name, path in built.items()}, "sample": list(model.input.sizes)}
        (check.folder / "engines.built").write_text(json.dumps(document), encoding="utf-8")
        check.keep(outcome)

    return engines.build_engines(check.folder, model, wanted, say, keep)[0]


def _latency(check: Check) -> Outcome:
    built = check.folder / "engines.built"
    document = json.loads(built.read_text(encoding="utf-8")) if built.is_file() else {"engines": {}}
    if not document["engines"]:
        raise MissingError("no engine was built", "the part 'engines'", "See why it could not be built.")
    from . import latency

    engines = {name: Path(path) for name, path in document["engines"].items()}
    return latency.measure_latency(engines, check.plugin(), document["sample"], check.keep)


# In this order: what proves most in least time comes first. The least of all together fits into the ten minutes of
# `offline`; engines, which are long to build, get what nobody else needs.
PARTS = {
    "clocks": Part(_clocks, Limit(30, 2)),
    "driver": Part(_driver, Limit(60, 15)),
    "plugin": Part(_plugin, Limit(300, 5)),
    "library": Part(_library, Limit(320, 80)),
    "operators": Part(_operators, Limit(320, 80)),
    "plan": Part(_plan, Limit(90, 15)),
    "exhaustive": Part(_exhaustive, Limit(170, 60)),
    "kernels": Part(_kernels, Limit(300, 60)),
    "bandwidth": Part(_bandwidth, Limit(130, 40)),
    "chain": Part(_chain, Limit(70, 20)),
    "torch": Part(_torch, Limit(180, 40)),
    "onnxruntime": Part(_onnxruntime, Limit(300, 40)),
    "engines": Part(_engines, Limit(3600, 0)),
    "latency": Part(_latency, Limit(600, 0)),
}


class CutOff(BaseException):
    """The part's time is over. Not an error of the part, so that nothing in it catches it."""


def main(name: str, folder: Path, seconds: float) -> int:
    """Run one part; its outcome is kept in the folder. What it started ends with it."""
    check = replace(Check.read(folder), deadline=Deadline.of_part(seconds))
    signal.signal(signal.SIGALRM, _cut_off)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        check.keep(outcome_of(name, lambda: PARTS[name].run(check)))
    except CutOff:
        check.keep(
            check.failed(name, f"cut off after {seconds:.0f} s", "Give it more time, or run it alone: --parts.")
        )
    return 0


def _cut_off(*_: object) -> None:
    raise CutOff


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])))
