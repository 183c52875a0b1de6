"""Which option fits which format is derived from the options classes; every wrong pair is refused alike."""

import re
import subprocess
import sys

import pytest
from apa_exporters.cli import _parser, main
from apa_exporters.options import all_flags, read_options
from apa_exporters.registry import TARGETS

FLAGS = {flag.name: flag for target in TARGETS.values() for flag, _ in all_flags(target.options).values()}
# A value of each option that wants one.
VALUES = {
    "--activation": "plugin", "--auto-keep-float": "2", "--backend": "python", "--batch": "2",
    "--batch-delay-ms": "1", "--bundle": "b",
    "--calibration": "c.npz", "--calibration-method": "mse", "--calibration-samples": "64",
    "--compute-capability": "8.6", "--decomposition": "anl", "--device": "cpu",
    "--hardware-compatible": "AMPERE_PLUS",
    "--inputs": "i.npz", "--instances": "2", "--keep-float": "head*", "--latency-runs": "9", "--min-sqnr": "20",
    "--name": "m", "--opset": "18", "--optimization-level": "3", "--ort-library": "other.so",
    "--precision": "fp16", "--resize": "256", "--shapes": "3x8x8:3x8x8:3x8x8",
    "--threads": "2", "--timing-cache": "c", "--workspace": "1G",
}  # fmt: skip
OWN = sorted(name for name, flag in FLAGS.items() if not flag.shared)
PAIRS = [(name, target) for name in OWN for target in TARGETS]


def _given(name):
    return [name, VALUES[name]] if "metavar" in FLAGS[name].keywords or name in VALUES else [name]


def _belongs(name, target):
    return any(flag.name == name for flag, _ in all_flags(TARGETS[target].options).values())


@pytest.mark.parametrize(("name", "target"), [p for p in PAIRS if not _belongs(*p)])
def test_an_option_of_another_format_is_refused_and_its_owners_named(name, target, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["model.pth", "--format", target, *_given(name)]) == 2
    said = capsys.readouterr().err
    assert f"error: {name} with --format {target}; wanted --format " in said
    named = re.findall(r"--format ([\w-]+)", said.partition("wanted")[2])
    assert named == [owner for owner in TARGETS if _belongs(name, owner)]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "target"), [p for p in PAIRS if _belongs(*p)])
def test_an_option_of_this_format_reaches_its_class(name, target):
    given = vars(_parser().parse_args(["model.pth", "--format", target, *_given(name)]))
    kind = TARGETS[target].options
    destination = FLAGS[name].destination
    assert TARGETS[target].takes(destination, given[destination])
    without = {key: value for key, value in given.items() if key != destination}
    if VALUES.get(name) not in ("anl", "18"):  # which are the defaults
        assert read_options(kind, given) != read_options(kind, without)


REFUSED = [
    ("a default that was written", ["--format", "onnx", "--instances", "1"], "--instances with --format onnx"),
    ("a profile of a file", ["--batch", "1:2:4"], "--batch 1:2:4 with --format onnx; wanted --format trt or"),
    (
        "an abbreviation",
        ["--prec", "fp16"],
        "unknown --prec fp16; wanted an option of this command. Did you mean --precision?",
    ),
    ("the source itself", ["--format", "onnx", "-o", "model.pth"], "a name that ends in .onnx"),
]


@pytest.mark.parametrize(("arguments", "saw"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_refused(arguments, saw, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["model.pth", *arguments])
    except SystemExit as stop:  # argparse's own
        code = stop.code
    assert code == 2
    assert saw in capsys.readouterr().err


def test_an_option_of_every_format_is_none_of_one_target(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("a\n")
    given = ["none.pth", "--input-shape", "3x8x8", "--force", "--labels", "labels.txt"]
    for target in TARGETS:
        assert main([*given, "--format", target]) in (2, 3)
        assert "with --format" not in capsys.readouterr().err


def test_the_registry_imports_nothing_heavy():
    heavy = "{'torch', 'onnx', 'onnxruntime', 'openvino', 'tensorrt'} & set(sys.modules)"
    code = f"import sys, apa_exporters.registry; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
