"""`--format trt`: canonical ONNX -> a TensorRT engine, by plugin or decomposed, judged on this machine's GPU.

model -> bundle (ONNX, judged; plugin; golden outputs) -> its script, in a child process -> engine, passport

What builds here is the very script that a bundle carries to another machine.
"""

from __future__ import annotations

from pathlib import Path

from apa_deploy.child_process import last_lines
from apa_deploy.errors import InputError, MissingError
from apa_deploy.files import replace_file, stage_files
from apa_deploy.network import Network
from apa_deploy.progress import notice, step
from apa_deploy.records.parity import OutputCheck, ParityError, ParityReport
from apa_deploy.records.passport import Passport, dump, passport_path, read_passport
from apa_deploy.require import PACKAGES, require

from ..build_progress import Report, engine_error, last_report, show_progress
from .bundle import SCRIPT, write_bundle
from .on_target import machine
from .on_target.checksums import NAME as SUMS
from .on_target.recipe import Recipe
from .on_target.refusal import MISSING, MISUSE, RefusalError
from .options import TrtOptions, check_trt_options


def export_trt(network: Network, out: Path, options: TrtOptions) -> Passport:
    """Write the engine `out` and its passport, unless a gate fails: then nothing is written.

    Raises:
        MissingError: `tensorrt`, the driver or a GPU is missing; the message names which, and what adds it.
        InputError: options that do not go together.
        ParityError: an ONNX file or the engine is not right.
        ChildError: TensorRT refused or died.
    """
    check_trt_options(options)
    _check_machine()
    with stage_files([out, passport_path(out)], force=options.graph.force) as folder:
        bundle = folder / "bundle"
        bundle.mkdir()
        _, passport = write_bundle(bundle, out.name, network, options)
        _build(bundle, folder, passport, options)
        made = read_passport(passport_path(folder / out.name))
        passport_path(folder / out.name).write_text(dump(made), encoding="utf-8")
    return made


def export_bundle(network: Network, folder: Path, engine: str, options: TrtOptions) -> tuple[Recipe, Passport]:
    """Write a bundle for another machine: needs neither a GPU nor `tensorrt`.

    Raises:
        InputError: options that do not go together, or `folder` exists without `force`.
        ParityError: an ONNX file is not right.
    """
    check_trt_options(options)
    _check_replaceable(folder)
    empty = folder.is_dir() and not any(folder.iterdir())
    with replace_file(folder, force=options.graph.force or empty) as temporary:
        temporary.mkdir()
        return write_bundle(temporary, engine, network, options)


def _check_replaceable(folder: Path) -> None:
    """--force replaces a bundle, never another folder."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / SUMS).is_file():
        raise InputError(f"{folder} holds other things", "a new folder, or a bundle", "Choose another one.")


def _check_machine() -> None:
    try:
        machine.check(add=PACKAGES["tensorrt"].add)
    except RefusalError as refusal:
        do = f"{refusal.do} Or let another machine build it: --bundle DIR."
        raise MissingError(refusal.saw, refusal.wanted, do) from refusal
    require("tensorrt")


def _build(bundle: Path, folder: Path, passport: Passport, options: TrtOptions) -> None:
    arguments = ["--reports", "-o", str(folder)]
    if options.timing_cache:
        arguments += ["--timing-cache", str(options.timing_cache.resolve())]
    said = folder / "said"
    with show_progress() as on_report, step("Building the engine"):
        last, reason = last_report(bundle / SCRIPT, arguments, said, on_report)
    if reason:
        raise _error(last, reason, said, passport)
    for line in last["result"]["said"][1:]:
        notice(line)


def _error(last: Report, reason: str, said: Path, passport: Passport) -> Exception:
    """The child's refusal, as one of ours."""
    checks = [OutputCheck(**check) for check in last.get("checks", [])]
    if passport.parity and any(not check.passed for check in checks):
        return ParityError(_report(passport.parity, checks))
    kind = {MISSING: MissingError, MISUSE: InputError}.get(last.get("code", 0))
    if kind:
        return kind(reason, "an engine", "Nothing was written.")
    return engine_error(reason, last_lines(said))


def _report(parity: ParityReport, checks: list[OutputCheck]) -> ParityReport:
    report = parity.model_copy(deep=True)
    report.add_checks(checks)
    return report
