"""Every kind of detector as a graph in ONNX Runtime, against the float64 rebuild, which shares no code with it."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from apa_deploy.detection.graph import DetectorGraphOptions, append_detector
from apa_deploy.detection.load import detector_from_state
from apa_deploy.graph.decompose import decompose
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.tensors.signature import image_signature
from tests.detection.small_detectors import KINDS, SIZE, make, picture

BATCH = 2


TRACED = {}  # there are two backbones, the same for every kind of head


def graph_of(module, **options):
    spec = module.backbone.spec
    if spec not in TRACED:
        model = TorchNetwork(
            module.backbone, image_signature((3, *SIZE)), Metadata("backbone", output_names=spec.output_names)
        )
        TRACED[spec] = model.trace().proto.SerializeToString()
    weights = {k: v.numpy() for k, v in module.state_dict().items() if not k.startswith("backbone.")}
    proto = onnx.ModelProto.FromString(TRACED[spec])
    return append_detector(proto, module.detector, weights, DetectorGraphOptions(**options))


def run(proto, images, valid):
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images, "valid_wh": valid}), strict=True))


@pytest.fixture(params=KINDS)
def module(request):
    return detector_from_state(*make(request.param)).module


def test_graph_detects_what_the_rebuild_detects(module):
    images, valid = picture(BATCH)
    found = run(decompose(graph_of(module)), images, valid)
    double = module.double()
    with torch.inference_mode():
        wanted = double(torch.from_numpy(images).double(), torch.from_numpy(valid).double())
    wanted = dict(zip(double.detector.output_names, (w.numpy() for w in wanted), strict=True))
    assert list(found) == list(wanted)
    assert (found["num"] == wanted["num"]).all() and (wanted["num"] > 3).all()
    assert (found["labels"] == wanted["labels"]).all()
    # float32 over some 30 layers is 1e-6 off at boxes of 100 pixels; a wrong formula is 1e-2 off
    assert np.abs(found["scores"] - wanted["scores"]).max() < 2e-5
    assert np.abs(found["boxes"] - wanted["boxes"]).max() < 5e-3
    if "masks" in found:
        assert np.abs(found["masks"] - wanted["masks"]).max() < 1e-3


def test_raw_outputs_stop_before_scores_and_decoding():
    module = detector_from_state(*make("v3det_cascade")).module
    images, valid = picture()
    found = run(decompose(graph_of(module, raw=True)), images, valid)
    assert {name: value.shape for name, value in found.items()} == {
        "proposals": (1, 100, 5), "cls_score": (1, 100, 6), "bbox_pred": (1, 100, 4),
    }  # fmt: skip


def test_few_pairs_before_the_last_nms_change_nothing_while_enough_remain():
    module = detector_from_state(*make("lvis_r101")).module
    module.detector = dataclasses.replace(module.detector, max_detections=5)
    images, valid = picture()
    every, few = (run(decompose(graph_of(module, pairs=pairs)), images, valid) for pairs in (10_000, 100))
    for name, value in every.items():
        assert (value == few[name]).all(), name
