"""A report with every part filled in."""

from __future__ import annotations

import random

from apa_deploy.records.benchmark import Comparison, Environment, Failure, Interval, Latency, Traffic
from apa_deploy.records.parity import OutputCheck
from apa_deploy.records.passport import ActivationRecord, FileRecord
from apa_deploy.report import Accuracy, ActivationError, Compared, KeyFigure, Limit, Report, ReportVerdict, Table

_RANDOM = random.Random(0)
CUSTOM, PLAIN = "model.custom.onnx", "model.onnx"
INJECTION = "<script>document.title = 'changed'</script>|<img src=x onerror=alert(1)>"


def near(value: float) -> Interval:
    return Interval(value=value, low=value * 0.98, high=value * 1.02)


def file(name: str) -> FileRecord:
    return FileRecord(name=name, sha256="ab12" * 16, bytes=12_345_678)


def activation(i: int) -> ActivationRecord:
    kind = "APA" if i % 3 == 2 else "AGLU"
    lambda_ = [max(1e-8, _RANDOM.gauss(0.3, 0.5)) for _ in range(1 + i % 2)]
    return ActivationRecord(
        path=f"backbone.layer{1 + i // 12}.{i % 12 // 3}.unirect{i % 3}",
        kind=kind,
        floor="relu+1e-8",
        **{"lambda": lambda_},
        kappa=[_RANDOM.gauss(1 if kind == "AGLU" else -0.4, 0.3)],
        form="anl",
    )


def series(name: str, batch: int, milliseconds: float) -> Latency:
    rounds = [[milliseconds * (1 + 0.03 * _RANDOM.lognormvariate(0, 1)) for _ in range(9)] for _ in range(6)]
    return Latency(
        name=name, runtime="ONNX Runtime 1.32", batch=batch, threads=2, rounds=rounds, p50=near(milliseconds),
        p90=near(milliseconds * 1.1), p99=near(milliseconds * 1.3), throughput=near(1e3 * batch / milliseconds),
        loads_s=[0.3, 0.31, 0.5], peak_memory_bytes=231_000_000,
    )  # fmt: skip


def output(runner: str, error: float, *, passed: bool) -> OutputCheck:
    return OutputCheck(
        runner=runner, name="logits", samples=6, max_abs=error, max_rel=error, quantiles={"p50": error},
        cosine=0.999999999, top1_agreement=1.0, torch_float32_max_rel=3.1e-7, limit=1.9e-6, passed=passed,
    )  # fmt: skip


def report(status: str = "passed") -> Report:
    activations = [activation(i) for i in range(30)]
    return Report(
        title=f"{PLAIN} and {CUSTOM} against a_checkpoint_with_a_rather_long_name_that_cannot_be_broken.pth",
        verdict=ReportVerdict(status=status, summary="Both answer alike.", reasons=["All is within limits."]),
        figures=[KeyFigure(label="largest error / limit", value="0.41", note="logits"),
                 KeyFigure(label="median latency", value="41.3 ms")],
        compared=[Compared(role="reference", name="model.pth", runtime="torch float64", file=file("model.pth")),
                  Compared(role="candidate", name=PLAIN, note=INJECTION)],
        outputs=[output(PLAIN, 8.1e-7, passed=True), output(CUSTOM, float("inf"), passed=False)],
        limits=[Limit(name="model gate", value=1.9e-6, derivation="4 times the error of torch float32; " * 4)],
        activation_errors=[
            ActivationError(runner=PLAIN, path=a.path, kind=a.kind, measured=10 ** _RANDOM.gauss(-6.7, 0.3),
                            predicted=2e-7, limit=2e-6, passed=True) for a in activations[1:]
        ] + [ActivationError(runner=PLAIN, path="broken", kind="AGLU", measured=float("nan"), passed=False)],
        accuracy=[Accuracy(runner=PLAIN, group="few", samples=100, top1=0.9712)],
        curves=activations,
        latency=[series(PLAIN, 1, 44.0), series(CUSTOM, 1, 41.0), series(PLAIN, 8, 310.0),
                 series(CUSTOM, 8, 300.0)],
        comparisons=[Comparison(name=CUSTOM, baseline=PLAIN, batch=b, threads=2, ratio=near(0.95), p_value=0.01,
                                verdict=v) for b, v in ((1, "faster"), (8, "no difference"))],
        traffic=[Traffic(artifact=CUSTOM, path="layer1.0.unirect1", kind="AGLU", bytes=6_400_000, ms=0.42,
                         copy_fraction=0.71)],
        failures=[Failure(name="model.engine", reason="no NVIDIA GPU on this machine")],
        tables=[Table(title="Anything else", headers=["a", "b|c"], rows=[["1", INJECTION]], note="A note.")],
        environment=Environment(cpu="AMD EPYC 9R14", cores=2, governor="performance", memory_bytes=25_000_000_000,
                                load=(1.2, 2.3), versions={"torch": "2.13.0"}, variables={"OMP_NUM_THREADS": "1"}),
        sources=[file("model.pth")],
        options={"format": "onnx"},
        commands=["apa-verify model.pth model.onnx model.custom.onnx --per-layer " + "--report r.html " * 8],
        notes=[INJECTION],
    )  # fmt: skip
