"""Pages that follow from the code: the command line, the Python API, known errors, the passport's schema."""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apa_deploy
from apa_deploy.doctor.known_errors import read_known_errors

ROOT = Path(__file__).resolve().parents[2]
VERBS = {
    "apa-export": "apa_exporters.cli",
    "apa-verify": "apa_deploy.cli.verify",
    "apa-inspect": "apa_deploy.cli.inspect",
    "apa-bench": "apa_deploy.cli.bench",
    "apa-serve": "apa_deploy.cli.serve",
    "apa-doctor": "apa_deploy.cli.doctor",
}
# Public modules whose names the package itself does not have.
FURTHER = {
    "In tests": ("apa_deploy.testing.assert_parity",),
    "Modules and functions of torch": (
        "apa_deploy.modules.APA", "apa_deploy.modules.AGLU",
        "apa_deploy.functional.apa", "apa_deploy.functional.aglu",
    ),
    "Records": ("apa_deploy.records.passport.read_passport", "apa_deploy.records.passport.Passport"),
    "Detectors": ("apa_deploy.detection.pictures",),
    "Errors": ("apa_deploy.errors",),
}  # fmt: skip


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The parser of a verb."""
    return importlib.import_module(VERBS[verb])._parser()


def command_line() -> str:
    """Every option of every verb, by its group."""
    parts = ["# Command line\n\nEvery verb has `--help`, which says the same.\n"]
    for verb in VERBS:
        parser = parser_of(verb)
        usage = parser.format_usage().removeprefix("usage: ").split("[-h]")[0].strip() or verb
        parts.append(f"## {verb}\n\n{parser.description}\n\n    {usage} [options] {_positionals(parser)}\n")
        for group in parser._action_groups:
            rows = [_row(parser, action) for action in group._group_actions if action.help != argparse.SUPPRESS]
            if rows:
                parts.append(
                    f"### {verb}: {group.title}\n\n| option | meaning |\n| --- | --- |\n" + "\n".join(rows) + "\n"
                )
    return "\n".join(parts)


def _positionals(parser: argparse.ArgumentParser) -> str:
    return " ".join(_words(action) for action in parser._actions if not action.option_strings)


def _words(action: argparse.Action) -> str:
    """What stands behind an option, or in a positional's place."""
    if action.nargs == 0:
        return ""
    names = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    return (" ".join(names) if isinstance(names, tuple) else names) + ("..." if action.nargs in ("+", "*") else "")


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    words = _words(action)
    names = [f"`{f'{name} {words}'.strip()}`" for name in action.option_strings or [""]]
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return f"| {_cell(', '.join(names))} | {_cell(text)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def python() -> str:
    """Instructions to mkdocstrings: the package's own names, then those of `FURTHER`."""
    own = [f"apa_deploy.{module}.{name}" for name, module in apa_deploy._LAZY.items()]
    parts = ["# Python\n\nThe names of the first part are those of the package itself: `apa_deploy.load`.\n"]
    for title, names in {"The package": own, **FURTHER}.items():
        parts.append(f"## {title}\n\n" + "\n".join(f"::: {name}\n" for name in names))
    return "\n".join(parts)


def errors() -> str:
    """What `apa-doctor --error` knows, by name."""
    rows = sorted(read_known_errors(), key=lambda row: row.name.lower())
    intro = f"""# Error messages

`apa-doctor --error "TEXT"` finds the cause of a message in this table of {len(rows)} causes, and says what to do on
your machine. A word in braces is a part of the message.
"""
    return intro + "\n".join(
        f"\n## {row.name[:1].upper()}{row.name[1:]}\n\n{_prose(row.cause)}\n\n**What to do:** {_prose(row.do)}\n"
        + (f"\nReported in: {', '.join(row.threads)}\n" if row.threads else "")
        for row in rows
    )


def _prose(text: str) -> str:
    """Text of a terminal as Markdown that shows every character of it."""
    return re.sub(r"([\\`*_<>\[\]#|])", r"\\\1", text)


def passport_schema() -> str:
    """The JSON Schema of a passport's file, whose last entry is its own hash."""
    from apa_deploy.records.passport import Passport

    schema = Passport.model_json_schema(by_alias=True, mode="serialization")
    schema["properties"]["self_sha256"] = {
        "type": "string", "pattern": "^[0-9a-f]{64}$", "description": "sha256 of all that stands before this entry",
    }  # fmt: skip
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def passport() -> str:
    """The files that an export writes, and every field of a passport."""
    schema = json.loads(passport_schema())
    classes = {"Passport": schema, **schema["$defs"]}
    version = schema["properties"]["schema_version"]["const"]
    text = f"""# Files, and the passport's schema

| file | what it is |
| --- | --- |
| `OUT.onnx`, `OUT.onnx.data` | the model; the second holds weights where they exceed 2 GB |
| `OUT.xml`, `OUT.bin` | an OpenVINO IR: `--format openvino` |
| `OUT.engine` | a TensorRT or TensorRT for RTX engine |
| a folder | a Triton model repository, or what `--bundle` writes |
| `OUT.passport.json` | the passport: beside each of these, `OUT` with its suffix |

A passport is JSON in UTF-8. [passport.schema.json](passport.schema.json) is its JSON Schema. This is schema version
{version}. A reader should ignore fields that it does not know. `self_sha256` is the hash of everything before
it: it finds damage, it is not a signature.
"""
    return text + "".join(f"\n## {name}\n\n{_about(one)}{_fields(one)}" for name, one in classes.items())


def _about(one: dict[str, Any]) -> str:
    text = one.get("description", "").strip()
    return f"{_cell(text)}\n\n" if text else ""


def _fields(one: dict[str, Any]) -> str:
    needed = set(one.get("required", ()))
    rows = [
        f"| `{name}` | {_cell(_type(field))} | {'always' if name in needed else 'may be absent'} |"
        for name, field in one.get("properties", {}).items()
    ]
    return "| field | type | |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"


def _type(field: dict[str, Any]) -> str:
    """A JSON Schema's type in a few words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(map(_type, field["anyOf"]))
    if field.get("type") == "array" and "items" in field:
        return f"list of {_type(field['items'])}"
    if isinstance(more := field.get("additionalProperties"), dict):
        return f"object of {_type(more)}"
    return json.dumps(field["const"]) if "const" in field else str(field.get("type", "any"))


def anchor(file: str) -> str:
    """The heading of an example's file, as the site's links name it."""
    return re.sub(r"[^\w\-]", "", file.lower())


def example_files() -> Iterator[Path]:
    """The programs of examples/, in the order of their names."""
    for suffix in ("py", "sh", "yaml"):
        yield from sorted((ROOT / "examples").rglob(f"*.{suffix}"))


def example_sources() -> str:
    """Every program of examples/ in full, each below a heading of its name."""
    languages = {".py": "python", ".sh": "bash", ".yaml": "yaml"}
    texts = {path: path.read_text(encoding="utf-8") for path in example_files()}
    return "".join(
        f"\n## {path.relative_to(ROOT / 'examples')}\n\n```{languages[path.suffix]}\n{text}```\n"
        for path, text in texts.items()
    )
