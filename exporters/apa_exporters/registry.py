"""The formats of `apa-export`. A new target is a folder with an `options.py`, and a line here."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from apa_deploy.errors import InputError

from .onnx.options import TARGETS as ONNX
from .openvino.options import TARGET as OPENVINO
from .options import Flag, all_flags
from .target import Target
from .tensorrt.options import TARGET as TRT
from .tensorrt_rtx.options import TARGET as RTX
from .triton.options import TARGET as TRITON

TARGETS = {target.name: target for target in (*ONNX, OPENVINO, TRT, RTX, TRITON)}


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Add each target's options, an option of several targets once; its group says which take it.

    They have no default: what is in the namespace was written, and the defaults are the options classes'.
    """
    groups: dict[str, list[Flag]] = {}
    owners: dict[str, list[str]] = {}
    merged: dict[str, Flag] = {}
    for target in TARGETS.values():
        for destination, (flag, group) in all_flags(target.options).items():
            if flag.shared:
                continue
            owners.setdefault(group, [])
            owners[group] += [target.name] * (target.name not in owners[group])
            known = merged.get(destination)
            choices = dict.fromkeys((*(known.choices if known else ()), *flag.choices))
            merged[destination] = replace(known or flag, choices=tuple(choices))
            if known is None:
                groups.setdefault(group, []).append(flag)
    for group, flags in groups.items():
        everywhere = len(owners[group]) == len(TARGETS)
        added = parser.add_argument_group(group if everywhere else f"{group} ({', '.join(owners[group])})")
        for flag in flags:
            offered = merged[flag.destination].choices
            keywords: dict[str, Any] = dict(flag.keywords)
            if offered:
                keywords["choices"] = offered
            added.add_argument(flag.name, default=argparse.SUPPRESS, **keywords)


def refuse_options_of_others(given: Mapping[str, object], target: Target, *, repack: bool) -> None:
    """Refuse the first option that does not belong to `target`, or not with this value.

    Args:
        given: what was written, by its name in a namespace; options of no target are not judged.
        repack: whether the source is an exported file, which goes in as it is.

    Raises:
        InputError: it names the formats that take the option.
    """
    known = {
        name: flag
        for one in TARGETS.values()
        for name, (flag, _) in all_flags(one.options).items()
        if not flag.shared
    }
    for destination, value in given.items():
        if destination not in known or target.takes(destination, value, repack=repack):
            continue
        name, choices = known[destination].name, target.choices(destination)
        if repack and target.takes(destination, value):
            refuse_for_exported(name)
        said = f"{name} {_text(value)}" if destination in all_flags(target.options) else name
        owners = [f"--format {one.name}" for one in TARGETS.values() if one.takes(destination, value)]
        do = f"Or take {name} {' or '.join(choices)}." if choices else "Leave it out."
        raise InputError(f"{said} with --format {target.name}", " or ".join(owners), do)


def refuse_for_exported(name: str) -> None:
    """Refuse an option that changes a network, where a file goes in as it is."""
    wanted = "a checkpoint: what is exported already is served as it is"
    do = "Leave it out, or export the network with it first, to a file of another --format."
    raise InputError(f"{name} with an exported file", wanted, do)


def _text(value: object) -> str:
    return ":".join(map(str, value)) if isinstance(value, tuple) else str(value)
