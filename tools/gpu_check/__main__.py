"""Everything that needs a GPU, in one go: kernels, bandwidth, engines, parity, latency; one report.

    python -m tools.gpu_check -o report      in a checkout of apa-deploy

writes report.json and report.html. A part that cannot run is reported with the reason. Exit codes: 0 all parts
passed; 1 one failed; 2 misuse; 3 one could not run, for want of what the report names.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from apa_deploy import __version__
from apa_deploy.cli.common import run_verb, verb_parser
from apa_deploy.errors import InputError, MissingError
from apa_deploy.files import stage_files
from apa_deploy.progress import step
from apa_deploy.records.passport import now, versions
from apa_deploy.runtimes.cuda_driver import cuda_version, gpus, missing_gpu

from . import kernels
from .clocks import readable
from .outcome import Outcome, exit_code, outcome_of
from .page import check_page, page

PARTS = ("clocks", "driver", "plugin", "kernels", "bandwidth", "torch", "engines", "latency")
_VERDICTS = {0: "passed", 1: "failed", 3: "incomplete"}
_PACKAGES = ("torch", "tensorrt", "cuda-python", "polygraphy", "onnx", "numpy")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_verb(_parser(), _check, argv)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("gpu_check", __doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu_check"), metavar="NAME",
                        help="write NAME.json and NAME.html (default: gpu_check)")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace existing reports")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="only these")
    parser.add_argument("--model", type=Path, help="a checkpoint of yours, instead of a random SE-ResNet50")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), default="fp16", help="of the engines")
    parser.add_argument("--sm", type=int, metavar="89", help="compile for this, not for the GPU that is here")
    return parser


@dataclass
class Check:
    """One check under way: what later parts use of earlier ones."""

    options: argparse.Namespace
    folder: Path
    plugin: Path | None = None
    programs: dict[str, Path] = field(default_factory=dict)
    engines: dict[str, Path] = field(default_factory=dict)
    sample: tuple[int, ...] = ()

    def architecture(self) -> int:
        """Such as 89.

        Raises:
            MissingError: there is no GPU to ask, and --sm was not given.
        """
        if self.options.sm:
            return int(self.options.sm)
        if lacks := missing_gpu():
            raise MissingError(f"this machine lacks {lacks[0]}", "a GPU to compile for", f"To add it, {lacks[1]}.")
        return int(gpus()[0].capability.replace(".", ""))

    def run_clocks(self) -> Outcome:
        """Whether clocks and throttle reasons can be read."""
        return readable()

    def run_driver(self) -> Outcome:
        """What a Session asks of the driver."""
        from .driver import check_driver

        return check_driver()

    def run_torch(self) -> Outcome:
        """The activation in torch, beside SiLU and a copy."""
        from .beside import check_torch

        return check_torch()

    def run_plugin(self) -> Outcome:
        """Build the plugin for the device."""
        folder = self.folder / "plugin"
        outcome = kernels.build_plugin(folder, self.architecture())
        self.plugin = folder / "plugins/tensorrt/libapa_trt.so"
        return outcome

    def run_kernels(self) -> Outcome:
        """Compile and run the kernels' tests."""
        return kernels.run_kernel_suites(self._programs())

    def run_bandwidth(self) -> Outcome:
        """Kernels beside copies."""
        return kernels.bandwidth(self._programs()["bandwidth"])

    def run_engines(self) -> Outcome:
        """Plugin, decomposed, twin."""
        from apa_deploy.loading.load import load

        from . import engines

        engines.check_machine()
        model = load(self.options.model) if self.options.model else engines.default_model()
        wanted = engines.Wanted(self.options.precision, plugin=self.plugin)
        self.sample = model.input.shape
        outcome, self.engines = engines.build_engines(self.folder, model, wanted, _say)
        return outcome

    def run_latency(self) -> Outcome:
        """Of the engines that were built."""
        from . import latency

        if not self.engines:
            raise MissingError("no engine was built", "the part 'engines'", "See why it could not be built.")
        return latency.measure_latency(self.engines, self.plugin, self.sample)

    def _programs(self) -> dict[str, Path]:
        from . import building

        if not self.programs:
            folder = self.folder / "programs"
            folder.mkdir(exist_ok=True)
            self.programs = building.programs(folder, self.architecture())
        return self.programs


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr)


def _check(options: argparse.Namespace) -> int:
    if options.output.suffix:
        raise InputError(f"-o {options.output}", "a name without a suffix", "NAME.json and NAME.html are written.")
    check_page()  # before long work, not after
    targets = [options.output.with_suffix(suffix) for suffix in (".json", ".html")]
    with stage_files(targets, force=options.force) as folder, tempfile.TemporaryDirectory() as scratch:
        outcomes = _outcomes(Check(options, Path(scratch)), options.parts)
        report = _report(options, outcomes)
        (folder / targets[0].name).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        (folder / targets[1].name).write_text(page(report), encoding="utf-8")
    _show(report, targets, options.json)
    return exit_code(outcomes)


def _outcomes(check: Check, parts: Sequence[str]) -> list[Outcome]:
    outcomes = []
    for part in PARTS:
        if part in parts:
            run: Callable[[], Outcome] = getattr(check, f"run_{part}")
            with step(part):
                outcomes.append(outcome_of(part, run))
    return outcomes


def _report(options: argparse.Namespace, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    driver = cuda_version()
    machine = {
        "GPUs": [asdict(gpu) for gpu in gpus()],
        "driver serves CUDA": ".".join(map(str, driver)) if driver else None,
        **versions(_PACKAGES),
    }
    return {
        "schema_version": 1,
        "tool": f"apa-deploy {__version__}",
        "created": now(),
        "verdict": _VERDICTS[exit_code(outcomes)],
        "precision": options.precision,
        "model": options.model.name if options.model else "se_resnet50, random weights",
        "machine": machine,
        "parts": [outcome.as_json() for outcome in outcomes],
    }


def _show(report: dict[str, Any], targets: Sequence[Path], as_json: bool) -> None:
    if as_json:
        print(json.dumps(report, indent=2))
        return
    for part in report["parts"]:
        print(f"{part['state']:8} {part['part']}" + (f": {part['reason']}" if part["reason"] else ""))
        if part["do"]:
            print(f"         {part['do']}")
    print(f"{report['verdict']}; see {' and '.join(map(str, targets))}")


if __name__ == "__main__":
    sys.exit(main())
