"""Learned activations launch as many kernels as SiLU: real engines beside their SiLU twins, built without a GPU."""

from pathlib import Path

import pytest

from apa_deploy.loading.load import load
from benchmarks.rtx_launches import NETWORKS, build_in_precision, trace_network

pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.pth"


def launches(proto, form, precision, sample, folder):
    return sum(build_in_precision(proto, form, precision, sample, folder, ()).launches.values())


# YOLO-like: also in the form of most exporters, which must show that a chain left unfused is counted.
CASES = [
    ("SE-ResNet50, 224x224", "fp16", ("AGLU, anl",), ()),
    ("YOLO-like, 640x640", "fp16", ("AGLU, anl",), ("AGLU, softplus",)),
    ("YOLO-like, 640x640", "bf16", ("AGLU, anl",), ()),
]


@pytest.mark.parametrize(
    ("network", "precision", "equal", "more"), CASES, ids=[f"{c[0].split(',')[0]}-{c[1]}" for c in CASES]
)
def test_as_many_launches_as_silu(network, precision, equal, more, tmp_path):
    make, shape = NETWORKS[network]
    proto = trace_network(make(), shape)
    floor = launches(proto, "SiLU twin", precision, shape, tmp_path)
    for form in equal:
        assert launches(proto, form, precision, shape, tmp_path) == floor
    for form in more:
        assert launches(proto, form, precision, shape, tmp_path) > floor


def test_the_trained_digits_network(tmp_path):
    model = load(DIGITS)
    proto = trace_network(model.module, model.input_shape)
    counts = [launches(proto, form, "fp16", model.input_shape, tmp_path) for form in ("SiLU twin", "AGLU, anl")]
    assert counts[1] == counts[0]
