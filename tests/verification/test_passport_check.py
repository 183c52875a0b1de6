"""A change of any byte of any file is caught, the passport's own bytes among them."""

import numpy as np
import pytest

from apa_deploy.cli.verify import main
from apa_deploy.records.integrity import verify_files
from apa_deploy.records.passport import dump, is_intact, passport_path, read_passport


def flipped(data, position, bit=0):
    return data[:position] + bytes([data[position] ^ (1 << bit)]) + data[position + 1 :]


def test_as_exported(exports):
    check, passport = verify_files(passport_path(exports / "plain.onnx"))
    assert check.passed and passport.format == "onnx"
    files = [(file.role, file.name, file.status) for file in check.files]
    assert files == [
        ("passport", "plain.onnx.passport.json", "intact"),
        ("output", "plain.onnx", "intact"),
        ("input", "model.pth", "intact"),
    ]


@pytest.mark.parametrize("name", ["plain.onnx", "model.pth", "plain.onnx.passport.json"])
def test_a_flipped_bit_anywhere(name, mine):
    path, original = mine / name, (mine / name).read_bytes()
    positions = np.random.default_rng(0).integers(0, len(original), 40)
    for position in (0, len(original) - 1, *positions.tolist()):
        path.write_bytes(flipped(original, position, position % 8))
        check, _ = verify_files(passport_path(mine / "plain.onnx"))
        wrong = [file.name for file in check.files if not file.passed]
        assert wrong == [name] or (wrong[0] == name and "passport" in name), position  # it holds the others' hashes
    for torn in (original[:-1], original + b"\n"):
        path.write_bytes(torn)
        assert not verify_files(passport_path(mine / "plain.onnx"))[0].passed


def test_every_single_byte_of_the_passport(exports):
    text = passport_path(exports / "plain.onnx").read_bytes()
    assert is_intact(text)
    assert not any(is_intact(flipped(text, i, i % 8)) for i in range(len(text)))
    assert not any(is_intact(text[:i] + text[i + 1 :]) for i in range(len(text)))


def test_it_can_be_made_to_fit_again_for_it_is_unsigned(exports):
    passport = read_passport(passport_path(exports / "plain.onnx"))
    assert is_intact(dump(passport.model_copy(update={"weights": "ema"})).encode())


def test_a_missing_output_fails_and_a_missing_source_does_not(mine):
    (mine / "model.pth").unlink()
    check, _ = verify_files(passport_path(mine / "plain.onnx"))
    assert check.passed and [f.status for f in check.files] == ["intact", "intact", "absent"]
    (mine / "plain.onnx").unlink()
    assert not verify_files(passport_path(mine / "plain.onnx"))[0].passed


def test_the_source_may_lie_elsewhere(mine, tmp_path):
    elsewhere = (mine / "model.pth").rename(tmp_path / "model.pth")
    check, _ = verify_files(passport_path(mine / "plain.onnx"), [elsewhere])
    assert [f.status for f in check.files] == ["intact"] * 3


def test_the_verb(mine, capsys, verify_here):
    passport = str(passport_path(mine / "plain.onnx"))
    assert main(["--passport", passport]) == 0
    assert "intact   output     plain.onnx" in capsys.readouterr().out
    (mine / "plain.onnx").write_bytes(flipped((mine / "plain.onnx").read_bytes(), 1000))
    assert main(["--passport", passport, "--parity"]) == 1
    assert "changed  output     plain.onnx" in capsys.readouterr().out
    assert main(["--passport", str(mine / "none.json")]) == 2


def test_the_verb_with_parity(mine, capsys, verify_here):
    """What the passport says is enough to verify again: the factory, the shape, the weights; and to record it."""
    before = read_passport(passport_path(mine / "plain.onnx"))
    assert main(["--passport", str(passport_path(mine / "plain.onnx")), "--parity", "--record"]) == 0
    after = read_passport(passport_path(mine / "plain.onnx"))
    assert after.parity.passed and "6 samples" in after.parity.inputs and len(after.parity.activations) == 6
    assert after.model_copy(update={"parity": before.parity}) == before
    assert verify_files(passport_path(mine / "plain.onnx"))[0].passed
    said = capsys.readouterr().out
    assert "passed: every file here is as the passport says" in said
    assert "passed: plain.onnx is as right as fp32 allows" in said
