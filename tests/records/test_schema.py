"""The passport's schema keeps its number while optional fields come, and only then (docs/releases.md)."""

import json
from pathlib import Path

from apa_deploy.records.passport import SCHEMA, Passport, dump, now, read_passport
from tools.docs.reference import passport_schema

# What the passports of 0.2.0 hold: by class, the fields that are always there, and the others.
FIRST = json.loads(Path(__file__).with_name("passport_schema_1.json").read_text(encoding="utf-8"))


def fields_by_class():
    schema = json.loads(passport_schema())
    classes = {"Passport": schema, **schema["$defs"]}
    needed = {name: sorted(one.get("required", ())) for name, one in classes.items()}
    return {name: [needed[name], sorted({*one["properties"]} - {*needed[name]})] for name, one in classes.items()}


def find_breaks(before, after):
    """What a reader or a file of `before` would miss: a class or field that is gone, one that is newly needed."""
    for name, (needed, optional) in before.items():
        now_needed, now_optional = after.get(name, ((), ()))
        yield from (f"{name}.{field} is gone" for field in {*needed, *optional} - {*now_needed, *now_optional})
        yield from (f"{name}.{field} is needed now" for field in {*now_needed} - {*needed})


def test_the_schema_of_version_1_stays():
    assert SCHEMA == 1, "a new number: keep a file of its fields beside the first, and read both"
    assert not list(find_breaks(FIRST, fields_by_class()))


def test_breaks_are_seen():
    changed = FIRST | {"FileRecord": [["bytes", "digest", "name"], []], "TensorRecord": [["name"], ["new"]]}
    assert sorted(find_breaks(FIRST, changed)) == [
        "FileRecord.digest is needed now", "FileRecord.sha256 is gone", "TensorRecord.datatype is gone",
        "TensorRecord.shape is gone", "TensorRecord.sizes is gone",
    ]  # fmt: skip


def test_a_field_of_a_later_release_is_no_hindrance(tmp_path):
    passport = Passport(
        created=now(), format="onnx", options={}, architecture="a", weights="w", input_shape=(3, 4, 4),
        output_names=["logits"], inputs=[], outputs=[], versions={}, activations=[],
    )  # fmt: skip
    document = json.loads(dump(passport)) | {"colour": "red"}
    path = tmp_path / "m.onnx.passport.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert read_passport(path) == passport
