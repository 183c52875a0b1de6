"""The float64 rebuild against upstream's own code, and whole exports of those detectors."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from apa_exporters.cli import main
from apa_exporters.onnx.export import OnnxOptions, export_onnx

from apa_deploy.detection.config import parse_config
from apa_deploy.detection.graph import TENSORRT_PAIRS
from apa_deploy.detection.load import detector_from_state
from apa_deploy.detection.pictures import paste_masks
from apa_deploy.loading.load import load

FOLDER = Path(__file__).parents[1] / "golden" / "detectors"
NAMES = ("mask_rcnn_coco", "mask_rcnn_lvis_r50", "faster_rcnn_v3det_wc", "cascade_rcnn_v3det_wc")
_file = importlib.util.spec_from_file_location("make_detector", FOLDER / "make_detector.py")
make_detector = importlib.util.module_from_spec(_file)
_file.loader.exec_module(make_detector)


def golden(name):
    return json.loads((FOLDER / f"{name}.json").read_text()), np.load(FOLDER / f"{name}.npz")


def relative(value, wanted):
    return float(np.abs(value.numpy() - wanted).max() / np.abs(wanted).max())


def upstreams_input(spec):
    """Upstream's float64 run keeps mean and std as float32, and nothing else."""
    picture = np.load(FOLDER / "image.npz")["image"]
    height, width = picture.shape[:2]
    mean, std = (np.array(v, np.float32).astype(np.float64) for v in (spec.mean, spec.std))
    images = np.zeros((1, 3, -(-height // 32) * 32, -(-width // 32) * 32))
    images[0, :, :height, :width] = ((picture[:, :, ::-1] - mean) / std).transpose(2, 0, 1)
    return torch.from_numpy(images), torch.tensor([width, height], dtype=torch.float64)


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(n, marks=pytest.mark.long) for n in NAMES[1:])])
def test_rebuild_is_upstreams(name):
    said, wanted = golden(name)
    state = make_detector.state_dict(said)
    module = detector_from_state(state, parse_config(said["config_text"], "config")).module.double()
    images, valid = upstreams_input(module.detector)
    with torch.inference_mode():
        stages = module.backbone(images)
        pyramid = module.neck(stages)
        for kind, maps in (("backbone", stages), ("fpn", pyramid)):
            for i, level in enumerate(maps):
                if f"{kind}{i}_mean_f64" in wanted.files:
                    assert relative(level[0].mean((1, 2)), wanted[f"{kind}{i}_mean_f64"]) < 1e-9
        objectness, deltas = module.rpn_head(pyramid)
        found = module.proposals([o[0] for o in objectness], [d[0] for d in deltas], valid)
        assert np.abs(found.numpy() - wanted["proposals_f64"]).max() < 1e-9 * 320
        maps = [level[0] for level in pyramid]
        logits, boxes, stages = module.heads(maps, torch.from_numpy(wanted["proposals_f64"][:, :4]), valid)
        assert relative(stages[-1][1][:4], wanted["cls_score_f64"]) < 1e-9  # of a cascade the last stage's
        assert relative(stages[-1][2][:4], wanted["bbox_pred_f64"]) < 1e-9
        found = module.final(maps, logits, boxes, with_masks=False)
        assert found.labels.tolist() == wanted["labels_f64"].tolist()
        assert relative(found.scores, wanted["scores_f64"]) < 1e-9
        scale = 1 if module.detector.masks else 2  # box-only detectors answer in pixels of the original
        assert relative(found.boxes * scale, wanted["boxes_net_f64"]) < 1e-9
        if module.detector.masks:
            (logits,) = module.mask_logits(maps, found.boxes[:8], found.labels[:8])
            assert relative(logits, wanted["mask_logits_f64"]) < 1e-9
            masks = logits.sigmoid()
            pasted = paste_masks(
                masks.numpy().astype(np.float32), wanted["boxes_f64"], 400, 600, module.detector.mask_thr
            )
            bits = np.unpackbits(wanted["masks_bits_f64run"], axis=-1)[:, :, :600].astype(bool)
            assert (pasted == bits).all()


def checkpoint(name, folder):
    said, _ = golden(name)
    meta = {"cfg": said["config_text"], "dataset_meta": {"classes": None}}
    torch.save({"meta": meta, "state_dict": make_detector.state_dict(said)}, folder / "detector.pth")
    return folder / "detector.pth"


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_exports(name, tmp_path, capsys):
    assert main([str(checkpoint(name, tmp_path)), "-o", str(tmp_path / "detector.onnx")]) == 0
    assert "0 excused" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_tensorrts_number_of_pairs_changes_no_detection(name, tmp_path):
    """The float64 reference chooses none before its NMS: it looks at up to 13 million pairs."""
    network = load(checkpoint(name, tmp_path)).for_tensorrt()
    passport = export_onnx(network, tmp_path / "detector.onnx", OnnxOptions())
    assert passport.options["detector"]["pairs"] == TENSORRT_PAIRS <= 5000
    (check,) = passport.parity.detections
    assert check.passed and check.excused == 0 and check.matched == check.reference
