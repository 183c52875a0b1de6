"""Learned activations launch as many kernels as SiLU: real engines beside their SiLU twins, built without a GPU."""

from pathlib import Path

import pytest

from apa_deploy.loading.load import load
from benchmarks.rtx_launches import NETWORKS, build_in_precision, trace_network

pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.pth"


def launches(proto, form, precision, sample, folder):
    return sum(build_in_precision(proto, form, precision, sample, folder, ()).launches.values())


# YOLO-like: also in the form of most exporters, which must show that a chain left unfused is counted. The digits'
# network below has the gates that SE-ResNet50 has.
CASES = [
    pytest.param("SE-ResNet50, 224x224", "fp16", ("AGLU, anl",), (), id="SE-ResNet50-fp16", marks=pytest.mark.long),
    pytest.param("YOLO-like, 640x640", "fp16", ("AGLU, anl",), ("AGLU, softplus",), id="YOLO-like-fp16"),
    pytest.param("YOLO-like, 640x640", "bf16", ("AGLU, anl",), (), id="YOLO-like-bf16", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("network", "precision", "equal", "more"), CASES)
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
