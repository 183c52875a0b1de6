"""`apa-verify`: what it prints and writes, and what it refuses."""

from types import SimpleNamespace

import pytest

from apa_deploy.cli.verify import main
from apa_deploy.report import read_report, write_report
from apa_deploy.verification.report import verification_report
from apa_deploy.verification.show import factory_hint
from tests.verification.conftest import EXPORTS, edited, set_initializer, verify


def test_what_it_prints(told):
    assert told.code == 0
    for text in (
        "reference: model.pth in float64; inputs: seeded, 6 samples",
        "limit of logits: max_rel",
        "the reference's own float32 error",
        "operator gate: all 3 activations alone are right",
        "kernel gate: all 3 activations alone are right",
        "error that each piece adds",
        "layers before",
        "passed: plain.onnx is as right as fp32 allows",
    ):
        assert text in told.out


def test_the_report(told, exports, tmp_path):
    report = read_report(told.folder / "page.json")
    assert report.verdict.status == "passed"
    assert [c.role for c in report.compared] == ["reference", "candidate"]
    assert len(report.activation_errors) == 7 and len(report.curves) == 3
    assert report.commands[0].startswith("apa-verify ") and report.sources[0].name == "model.pth"
    write_report(report, tmp_path / "page.md")
    assert "32 x 2^-24" in (tmp_path / "page.md").read_text()


def test_the_report_of_a_failure(mine, tmp_path):
    edited(mine / "plain.onnx", lambda m: set_initializer(m, "act1/log_lambda", lambda a: a + 0.01))
    (mine / "half.onnx").write_bytes(b"torn")
    verification = verify(mine / "model.pth", mine / "plain.onnx", mine / "half.onnx", per_layer=True).verification
    report = verification_report(verification)
    assert report.verdict.status == "failed"
    assert any("operator gate: 1 of 3 activations wrong: act1" in reason for reason in report.verdict.reasons)
    assert any("half.onnx was not judged" in reason for reason in report.verdict.reasons)
    write_report(report, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "act1" in page and "half.onnx was not judged" in page


FACTORY = [
    # the candidate's outputs and whether they are right; whether random weights are thought of
    ("a failure", ["logits"], False, True),
    ("none", ["logits"], True, False),
    ("a candidate that did not run", [], False, False),
]


@pytest.mark.parametrize(("outputs", "passed", "hinted"), [f[1:] for f in FACTORY], ids=[f[0] for f in FACTORY])
def test_weights_of_a_factory_are_thought_of_where_answers_differ(outputs, passed, hinted):
    candidate = SimpleNamespace(kind="onnx", name="m.onnx", outputs=outputs, passed=passed)
    for kind, name in (("module", "mine:network"), ("module", "model.pth")):
        reference = SimpleNamespace(kind=kind, name=name)
        hint = factory_hint(SimpleNamespace(reference=reference, candidates=[candidate]))
        assert ("mine:network ran with the weights that its factory gives it" in hint) is (hinted and ":" in name)


MISUSE = [
    ("nothing to compare", ["model.pth"], "REFERENCE and CANDIDATE"),
    ("no such file", ["none.pth", "plain.onnx"], "no such file"),
    ("a folder", [".", "plain.onnx"], "a folder"),
    ("a limit below 0", ["model.pth", "plain.onnx", "--max-rel", "-1"], "0 or more"),
    ("a limit that is no number", ["model.pth", "plain.onnx", "--max-abs", "much"], "--max-abs"),
    ("an unknown runner", ["model.pth", "plain.onnx", "--runner", "tpu"], "wanted one of onnxruntime, "),
    ("a report of an unknown kind", ["model.pth", "plain.onnx", "--report", "page.pdf"], ".html"),
    ("an output that exists", ["model.pth", "plain.onnx", "--save-outputs", "plain.onnx"], "--force"),
    ("no passport", ["--passport", "none.json"], "No such file"),
]


@pytest.mark.parametrize(("given", "said"), [m[1:] for m in MISUSE], ids=[m[0] for m in MISUSE])
def test_misuse(given, said, exports, monkeypatch, capsys):
    monkeypatch.chdir(exports)
    try:
        code = main(given)
    except SystemExit as stop:  # argparse's own
        code = stop.code
    assert code == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert {path.name for path in exports.iterdir()} == {
        "model.pth",
        *EXPORTS,
        *(f"{n}.passport.json" for n in EXPORTS),
    }
