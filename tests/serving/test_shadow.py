"""Parity in production: what was served is held against the reference, without an answer waiting for it."""

import json
import operator
import re
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
import yaml
from apa_exporters.onnx.export import OnnxOptions, export_onnx
from onnx import TensorProto, helper
from serving_models import loop_model, small_model
from serving_process import ServerProcess

from apa_deploy import load
from apa_deploy.errors import InputError
from apa_deploy.serving.reference import judge_answers, open_reference
from apa_deploy.serving.shadow import Shadow, references_by_model

DOCKER = Path(__file__).parents[2] / "docker"
ALERTS = yaml.safe_load((DOCKER / "alerts.yaml").read_text())["groups"][0]["rules"]
SHADOW_ERROR = next(rule["expr"] for rule in ALERTS if rule["alert"] == "ApaShadowError")
SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)$")
COMPARISON = re.compile(r"(\w+)\{(.*)\} (>|<) ignoring \((\w+)\) (\w+)$")


def samples(server):
    """Every sample of the server's metrics: name, labels, value."""
    with urllib.request.urlopen(f"http://{server.metrics}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            if not line.startswith("#"):
                name, labels, value = SAMPLE.match(line).groups()
                yield name, dict(re.findall(r'(\w+)="([^"]*)"', labels or "")), float(value)


def holds_for(server, expression):
    """The labels for which `a{x="y"} > ignoring (l) b` holds, as Prometheus matches the two sides."""
    left, chosen, sign, ignored, right = COMPARISON.match(expression).groups()
    chosen = dict(re.findall(r'(\w+)="([^"]*)"', chosen))
    found = list(samples(server))
    others = {tuple(sorted(labels.items())): value for name, labels, value in found if name == right}
    true = []
    for name, labels, value in found:
        if name == left and chosen.items() <= labels.items():
            rest = {k: v for k, v in labels.items() if k != ignored}
            other = others[tuple(sorted(rest.items()))]
            if {">": operator.gt, "<": operator.lt}[sign](value, other):
                true.append(rest)
    return true


def ask(server, count, seed=0):
    generator = np.random.default_rng(seed)
    for _ in range(count):
        assert server.infer(generator.standard_normal((1, 4)).tolist())[0] == 200


def outcomes(server):
    return {
        labels["outcome"]: value for name, labels, value in samples(server) if name == "apa_shadow_samples_total"
    }


def compared(server, count):
    end = time.monotonic() + 60
    while outcomes(server).get("compared", 0) < count:
        assert time.monotonic() < end, outcomes(server)
        time.sleep(0.05)


@pytest.mark.parametrize(("factor", "alerts"), [(1.01, {"g"}), (1.0, set())], ids=["1 % off", "right"])
def test_the_alert_says_which_output_is_wrong(tmp_path, factor, alerts):
    reference = small_model(tmp_path / "reference.onnx")
    small_model(tmp_path / "models" / "act.onnx", gate=1.5 * factor)
    arguments = ("--shadow", 1, "--shadow-reference", reference)
    with ServerProcess(tmp_path / "models", *arguments) as server:
        ask(server, 20)
        compared(server, 20)
        assert {labels["output"] for labels in holds_for(server, SHADOW_ERROR)} == alerts
        assert set(outcomes(server)) == {"compared", "unjudged", "dropped", "failed"}
        assert sum(outcomes(server).values()) == 20
        assert server.metric("apa_shadow_top1_agreement") > 0
        assert server.stop() == 0


def test_what_is_too_much_is_dropped_and_counted(tmp_path):
    """A reference that turns a loop a million times is slow; the answers are not."""
    loop_model(tmp_path / "models" / "loop.onnx")
    reference = loop_model(tmp_path / "reference.onnx")
    with ServerProcess(tmp_path / "models", "--shadow", 1, "--shadow-reference", f"loop={reference}") as server:
        for _ in range(3):
            assert server.infer([[3e5] * 4], "loop")[0] == 200
        for _ in range(200):
            assert server.infer([[1.0] * 4], "loop")[0] == 200
        dropped = outcomes(server)["dropped"]
        assert dropped > 0
        assert dropped + outcomes(server)["compared"] <= 203


def test_strings_that_wait_count_with_all_their_bytes(monkeypatch):
    """numpy counts 8 bytes a string, however long it is."""
    monkeypatch.setattr("apa_deploy.serving.shadow._WAITING_BYTES", 100_000)
    shadow = Shadow(1.0, {"m": Path("reference.onnx")}, None)
    model = SimpleNamespace(name="m", version=1, signature=SimpleNamespace(outputs=()), limits={})
    for _ in range(5):
        shadow.offer(model, {"x": np.array(["z" * 30_000], np.object_)}, {"y": np.zeros(1)})
    assert shadow.findings["m", 1].outcomes == {"dropped": 2}


def test_a_replaced_model_starts_from_nothing(tmp_path):
    reference = small_model(tmp_path / "reference.onnx")
    path = small_model(tmp_path / "models" / "act.onnx", kappa=1.5)
    arguments = ("--shadow", 1, "--shadow-reference", reference, "--reload-interval", 0.05)
    with ServerProcess(tmp_path / "models", *arguments) as server:
        ask(server, 10)
        compared(server, 5)
        assert holds_for(server, SHADOW_ERROR)
        small_model(path.with_name(".new")).replace(path)
        server.wait_for("loaded", reload=True)
        ask(server, 10)
        compared(server, 16)
        assert not holds_for(server, SHADOW_ERROR)


LIMITS = {"y": 1e-4}
ONES = np.ones((2, 3), np.float32)
VERDICTS = [
    ("equal", ONES, ONES, 0.0, ""),
    ("off", ONES, ONES * 1.01, 0.01, ""),
    ("NaN served", ONES, ONES * np.nan, np.inf, ""),
    ("NaN in the reference", ONES * np.nan, ONES, None, "not finite"),
    ("another shape", ONES, ONES[:1], None, "shape"),
    ("integers", np.arange(3), np.arange(3), 0.0, ""),
    ("strings", np.array(["a"], object), np.array(["a"], object), None, "object"),
    ("an empty one", ONES[:0], ONES[:0], None, ""),
    ("a scalar", np.float32(2), np.float32(2), 0.0, ""),
]


@pytest.mark.parametrize(
    ("truth", "served", "error", "reason"), [c[1:] for c in VERDICTS], ids=[c[0] for c in VERDICTS]
)
def test_verdicts(truth, served, error, reason):
    verdict = judge_answers({"y": np.asarray(truth)}, {"y": np.asarray(served)}, LIMITS)
    assert reason in verdict.reason
    assert bool(reason) == bool(verdict.reason)
    assert verdict.errors.get("y") == (None if error is None else pytest.approx(error, rel=1e-5))


def test_the_best_class_is_compared_where_it_is_clear():
    truth = np.array([[1.0, 0.0], [0.5, 0.5 - 1e-6], [0.0, 1.0]])
    served = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert judge_answers({"y": truth}, {"y": served}, LIMITS).agreement == {"y": [True, False]}


def test_a_reference_that_throws_dice_judges_nothing(tmp_path):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", 4)) for name in "xy")
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["r"]), helper.make_node("Add", ["x", "r"], ["y"])]
    model = helper.make_model(
        helper.make_graph(nodes, "dice", [x], [y]), opset_imports=[helper.make_opsetid("", 18)]
    )
    model.ir_version = 8
    onnx.save(model, tmp_path / "dice.onnx")
    _, compare = open_reference(str(tmp_path / "dice.onnx"))
    array = np.ones((1, 4), np.float32)
    assert "two ways" in compare({"x": array}, {"y": array}, LIMITS).reason


def test_other_names_are_matched_by_their_order(tmp_path):
    path = small_model(tmp_path / "act.onnx")
    _, compare = open_reference(str(path))
    from apa_deploy import Session

    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    with Session(path) as session:
        served = session.run({"x": x})
    verdict = compare({"images": x}, {"a": served["y"], "b": served["g"]}, {})
    assert verdict.reason == ""
    assert max(verdict.errors.values()) < 1e-6
    assert "outputs" in compare({"images": x}, {"a": served["y"]}, {}).reason


DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.pth"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The trained network, exported; and what it takes."""
    network = load(DIGITS)
    served = tmp_path_factory.mktemp("digits") / "digits.onnx"
    export_onnx(network, served, OnnxOptions(format="onnx-custom", verify=False))
    return served, np.random.default_rng(0).uniform(size=(12, 1, *network.input_shape)).astype(np.float32)


@pytest.mark.parametrize(("factor", "alerts"), [(1.01, {"logits"}), (1.0, set())], ids=["1 % off", "right"])
def test_a_checkpoint_is_a_reference_in_float64(tmp_path, digits, factor, alerts):
    served, images = digits
    checkpoint = torch.load(DIGITS, weights_only=False)
    checkpoint["model"]["unirect.lambda_param"] *= factor
    torch.save(checkpoint, reference := tmp_path / "reference.pth")
    with ServerProcess(served, "--shadow", 1, "--shadow-reference", reference) as server:
        for image in images:
            tensor = {"name": "input", "datatype": "FP32", "shape": image.shape, "data": image.ravel().tolist()}
            assert server.ask("/v2/models/digits/infer", {"inputs": [tensor]})[0] == 200
        compared(server, 5)
        assert {labels["output"] for labels in holds_for(server, SHADOW_ERROR)} == alerts


MISUSE = [
    ("no rate", ["--shadow-reference", "{r}"], "--shadow"),
    ("no reference", ["--shadow", "0.1"], "--shadow-reference"),
    ("a rate of 2", ["--shadow", "2", "--shadow-reference", "{r}"], "--shadow 2"),
    ("another model", ["--shadow", "1", "--shadow-reference", "other={r}"], "other"),
    ("no such file", ["--shadow", "1", "--shadow-reference", "none.onnx"], "none.onnx"),
    ("no limit", ["--shadow", "1", "--shadow-reference", "{r}", "--shadow-limit", "0"], "--shadow-limit"),
]


@pytest.mark.parametrize(("arguments", "saw"), [c[1:] for c in MISUSE], ids=[c[0] for c in MISUSE])
def test_misuse_exits_2(tmp_path, arguments, saw):
    path = small_model(tmp_path / "models" / "act.onnx")
    server = ServerProcess(path, *(a.format(r=path) for a in arguments))
    assert server.exit_code() == 2
    assert saw in server.text().splitlines()[-1]
    assert "Traceback" not in server.text()


def test_several_models_want_names(tmp_path):
    assert references_by_model(["r.onnx"], ["a"]) == {"a": Path("r.onnx")}
    assert references_by_model(["a=r.onnx", "b=s.pth"], ["a", "b"]) == {"a": Path("r.onnx"), "b": Path("s.pth")}
    with pytest.raises(InputError, match="2 models"):
        references_by_model(["r.onnx"], ["a", "b"])


def test_the_dashboard_and_the_alerts_read_what_there_is(tmp_path):
    path = small_model(tmp_path / "models" / "act.onnx")
    dashboard = json.loads((DOCKER / "grafana" / "dashboards" / "shadow.json").read_text())
    read = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    read += [rule["expr"] for rule in ALERTS]
    with ServerProcess(path, "--shadow", 1, "--shadow-reference", path) as server:
        ask(server, 3)
        compared(server, 1)
        names = {name for name, _, _ in samples(server)}
    assert set(re.findall(r"\bapa_\w+", " ".join(read))) <= names


@pytest.mark.long
def test_a_low_rate_costs_nothing_that_can_be_told(tmp_path):
    """p99 at rate 0.01 within what rounds at rate 0 differ among themselves, by turns in one run."""
    from load import Load

    path = small_model(tmp_path / "models" / "act.onnx")
    rates = {"off": (), "on": ("--shadow", 0.01, "--shadow-reference", path)}
    p99 = {name: [] for name in rates}
    for _ in range(6):
        for name, arguments in rates.items():
            with ServerProcess(tmp_path / "models", "--no-request-log", *arguments) as server:
                ask(server, 50)
                times = []
                with Load(server, "act", http_clients=2, grpc_clients=0) as load:
                    while len(load.outcome.answers) < 1500:
                        start = time.perf_counter()
                        ask(server, 1)
                        times.append(time.perf_counter() - start)
                p99[name].append(float(np.percentile(times, 99)))
    spread = max(p99["off"]) / min(p99["off"])
    assert np.median(p99["on"]) <= spread * np.median(p99["off"]), p99
