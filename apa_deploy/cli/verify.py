"""`apa-verify`: is an artifact still the trained network? Judged against the reference in float64."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files import refuse_existing, replace_file
from .common import (
    add_ort_library,
    add_report,
    count_of,
    limit_of,
    print_json,
    run_verb,
    seconds_of,
    shape_of,
    verb_parser,
    wide_console,
)

if TYPE_CHECKING:
    from ..records.integrity import PassportCheck
    from ..verification.run import Options, VerificationOutcome

_RUNNERS = ("onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt", "openvino", "tensorrt", "tensorrt-rtx")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `apa-verify`; returns the exit code."""
    return run_verb(_parser(), _verify, argv)


def _parser() -> argparse.ArgumentParser:
    from .model_options import add_deployment, add_loading

    parser = verb_parser("apa-verify", __doc__ or "")
    source = "checkpoint, .onnx, or package.module:factory"
    parser.add_argument("reference", metavar="REFERENCE", nargs="?", help=f"what is right: {source}")
    parser.add_argument("candidates", metavar="CANDIDATE", nargs="*", help=f"what to check: {source}, or .engine")
    parser.add_argument("--per-layer", action="store_true", help="the error that each layer adds, ranked")
    help_ = "what runs an .onnx; repeatable; all: every one that is here"
    parser.add_argument("--runner", action="append", choices=(*_RUNNERS, "all"), help=help_)
    parser.add_argument(
        "--timeout", type=seconds_of, default=600.0, metavar="S", help="seconds for each candidate (default: 600)"
    )
    parser.add_argument(
        "--other-weights", action="store_true", help="also compare what was made from another checkpoint"
    )
    parser.add_argument("--trust-engine", action="store_true", help="load engines whose hash is in no passport")
    add_ort_library(parser)
    _add_passport(parser.add_argument_group("passport"))
    _add_inputs(parser.add_argument_group("inputs"), shape_of)
    _add_limits(parser.add_argument_group("limits (default: derived from the number type)"))
    _add_results(parser.add_argument_group("results"))
    add_loading(parser.add_argument_group("loading"))
    add_deployment(parser.add_argument_group("built into the graph, as for apa-export"))
    return parser


def _add_passport(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--passport", type=Path, metavar="FILE", help="check every hash in it, and the file itself")
    group.add_argument("--parity", action="store_true", help="then verify its artifact against REFERENCE as well")


def _add_inputs(group: argparse._ArgumentGroup, shape: Any) -> None:
    wanted = ".npz, folder of images, or package.module:function (default: random, same each time)"
    group.add_argument("--inputs", metavar="DATA", help=wanted)
    group.add_argument(
        "--batch", type=count_of, metavar="N", help="samples per batch (default: 2 if random, else 16)"
    )
    group.add_argument("--input-shape", metavar="CxHxW", type=shape, help="e.g. 3x224x224")
    group.add_argument("--normalise", metavar="NAME|FILE", help="of images for float input: imagenet, cifar, mmdet")
    group.add_argument("--resize", type=count_of, metavar="N", help="images: shorter side before the centre crop")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--max-rel", type=limit_of, metavar="X", help="largest error over the largest |reference|")
    group.add_argument("--max-abs", type=limit_of, metavar="X", help="largest error")
    group.add_argument(
        "--min-agreement", type=limit_of, metavar="X", help="share of samples with the same first class"
    )
    group.add_argument(
        "--precision", choices=("fp32", "fp16", "bf16"), help="number type of candidates that do not show it"
    )


def _add_results(group: argparse._ArgumentGroup) -> None:
    add_report(group)
    group.add_argument("--save-outputs", type=Path, metavar="JSON", help="for polygraphy run --load-outputs")
    group.add_argument("--save-inputs", type=Path, metavar="JSON", help="for polygraphy run --load-inputs")
    group.add_argument("--record", action="store_true", help="put the result into each candidate's passport")
    group.add_argument("--force", action="store_true", help="replace existing files")


def _verify(options: argparse.Namespace) -> int:
    if options.passport:
        return _verify_passport(options)
    if not options.reference or not options.candidates:
        raise InputError("no REFERENCE and CANDIDATE", "two models or more", "E.g. apa-verify model.pth model.onnx")
    return _compare(options, options.reference, options.candidates)


def _compare(
    options: argparse.Namespace, reference: str, candidates: Sequence[str], check: PassportCheck | None = None
) -> int:
    from ..bench.to_passport import check_passport
    from ..report import check_report_path, write_report
    from ..verification.report import verification_report
    from ..verification.run import verify_candidates
    from ..verification.show import show
    from ..verification.source import source_of

    for path in (options.save_outputs, options.save_inputs):
        if path:
            refuse_existing(path, force=options.force)
    for path in candidates if options.record else ():
        check_passport(Path(path))
    check_report_path(options.report, force=options.force)
    outcome = verify_candidates(source_of(reference), [source_of(c) for c in candidates], _options(options))
    outcome.verification.passport = check
    _save(outcome, options)
    if options.record:
        _record(outcome, candidates)
    if options.report:
        write_report(verification_report(outcome.verification), options.report, force=options.force)
    if options.json:
        print_json(outcome.verification)
    else:
        show(wide_console(), outcome.verification)
    return outcome.verification.exit_code


def _options(options: argparse.Namespace) -> Options:
    from dataclasses import asdict

    from ..verification.limits import Given
    from ..verification.run import Options
    from ..verification.source import Loading
    from .model_options import deployment_of, loading_of

    deployment = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(deployment_of(options)).items()}
    return Options(
        loading=Loading(arguments=loading_of(options), input_shape=options.input_shape, deployment=deployment),
        inputs=options.inputs,
        batch=options.batch,
        limits=Given(options.max_abs, options.max_rel, options.min_agreement),
        per_layer=options.per_layer,
        runners=_runners(options.runner or ["onnxruntime"]),
        precision=options.precision,
        class_counts=options.class_counts,
        normalise=options.normalise,
        resize=options.resize,
        timeout=options.timeout,
        other_weights=options.other_weights,
        trust_engine=options.trust_engine,
        command=options.command,
    )


def _runners(given: Sequence[str]) -> tuple[str, ...]:
    from ..verification.available import available_runners

    chosen = [*given, *(available_runners() if "all" in given else ())]
    return tuple(dict.fromkeys(one for one in chosen if one != "all"))


def _record(outcome: VerificationOutcome, candidates: Sequence[str]) -> None:
    from ..verification.to_passport import add_parity

    for path, candidate in zip(candidates, outcome.verification.candidates, strict=True):
        if candidate.outputs:
            add_parity(Path(path), candidate, outcome.verification)


def _save(outcome: VerificationOutcome, options: argparse.Namespace) -> None:
    from ..verification.data import read_batches
    from ..verification.work import as_results, save_feeds, save_results

    if options.save_outputs:
        with replace_file(options.save_outputs, force=options.force) as temporary:
            save_results(as_results(outcome.recorded), temporary)
    if options.save_inputs:
        with replace_file(options.save_inputs, force=options.force) as temporary:
            save_feeds([batch.feed for batch in read_batches(outcome.answer.data)], temporary)


def _verify_passport(options: argparse.Namespace) -> int:
    from ..records.integrity import verify_files

    sources = [Path(options.reference)] if options.reference else []
    check, passport = verify_files(options.passport, sources)
    if not (options.parity and check.passed and passport):
        _print_check(check, options.json)
        return 0 if check.passed else 1
    if not options.json:
        _print_check(check, False)
    reference = options.reference or str(options.passport.with_name(passport.inputs[0].name))
    options.weights, options.input_shape = passport.weights, options.input_shape or passport.input_shape
    options.model = options.model or (passport.architecture if ":" in passport.architecture else None)
    return _compare(options, reference, [str(options.passport.with_name(passport.outputs[0].name))], check)


def _print_check(check: PassportCheck, as_json: bool) -> None:
    if as_json:
        print_json(check)
        return
    console = wide_console()
    for file in check.files:
        console.print(f"{file.status:8} {file.role:10} {file.name} {file.note}".rstrip())
    console.print("passed: every file here is as the passport says" if check.passed else "FAILED")


if __name__ == "__main__":
    raise SystemExit(main())
