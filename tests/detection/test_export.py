"""The verb on whole detectors: what it writes, what it says, what it refuses."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from apa_exporters.cli import main

from tests.detection.small_detectors import SIZE, make, picture

SHAPE = f"3x{SIZE[0]}x{SIZE[1]}"


def save(path, kind="lvis_r101", config=True, **changes):
    state, said = make(kind)
    said["model"] |= changes
    meta = {"cfg": f"model = {said['model']!r}"} if config else {}
    torch.save({"meta": meta | {"dataset_meta": {"classes": tuple("abcde")}}, "state_dict": state}, path)
    return path


def test_exports_detections_and_judges_them(tmp_path, capsys):
    source = save(tmp_path / "detector.pth")
    out = tmp_path / "detector.custom.onnx"
    options = ["--format", "onnx-custom", "--input-shape", SHAPE, "--max-detections", "7", "-o", str(out)]
    assert main([str(source), *options]) == 0
    said = capsys.readouterr().out
    assert "7 of 7 found again, 0 excused" in said
    passport = json.loads((tmp_path / "detector.custom.onnx.passport.json").read_text())
    assert [t["name"] for t in passport["input_tensors"]] == ["images", "valid_wh"]
    assert passport["output_names"] == ["boxes", "scores", "labels", "masks", "num"]
    assert passport["options"]["detector"]["max_detections"] == 7
    checks = passport["parity"]["detections"]
    assert checks and all(check["passed"] and check["matched"] == 7 for check in checks)
    session = onnxruntime.InferenceSession(str(out))
    images, valid = picture(3)
    boxes, scores, *_, num = session.run(None, {"images": images, "valid_wh": valid})
    assert boxes.shape == (3, 7, 4) and (np.diff(scores, axis=1) <= 0).all() and (num > 0).all()


def test_nothing_detected_cannot_be_judged(tmp_path, capsys):
    source, out = save(tmp_path / "detector.pth"), tmp_path / "detector.onnx"
    options = ["--input-shape", SHAPE, "--score-thr", "1", "-o", str(out)]
    assert main([str(source), *options]) == 1
    said = capsys.readouterr().err
    assert "nothing detected" in said and "--inputs" in said and "--no-verify" in said
    assert [path.name for path in tmp_path.iterdir()] == ["detector.pth"]


REFUSED = [
    ({}, ["--detector", "raw", "--score-thr", "0.1"], "--score-thr with --detector raw"),
    ({}, ["--nms-iou", "2"], "--nms-iou 2"),
    ({}, ["--max-detections", "0"], "--max-detections 0"),
    ({}, ["--softmax"], "--softmax with the detector"),
    ({}, ["--config", "missing.py"], "missing.py"),
    ({"config": False}, [], "without a background among them"),
    ({"neck": {"type": "PAFPN"}}, [], "neck.type PAFPN"),
    ({"roi_head": {"type": "HybridTaskCascadeRoIHead"}}, [], "roi_head.type HybridTaskCascadeRoIHead"),
    ({"kind": "coco", "backbone": {"type": "ResNet", "style": "caffe"}}, [], "backbone.style 'caffe'"),
]


@pytest.mark.parametrize(("changes", "options", "saw"), REFUSED)
def test_refuses_by_name(changes, options, saw, tmp_path, capsys):
    source, out = save(tmp_path / "detector.pth", **changes), tmp_path / "detector.onnx"
    assert main([str(source), "-o", str(out), *options]) == 2
    assert saw in capsys.readouterr().err
    assert not out.exists()


def test_unknown_keys_are_named(tmp_path, capsys):
    state, _ = make("coco")
    state["bbox_head.cls_convs.0.conv.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "detector.pth")
    assert main([str(tmp_path / "detector.pth")]) == 2
    assert "bbox_head.cls_convs" in capsys.readouterr().err


def test_a_backbone_alone_is_no_silent_answer(tmp_path, capsys):
    state, _ = make("coco")
    torch.save({k: v for k, v in state.items() if k.startswith("backbone.")}, tmp_path / "backbone.pth")
    assert main([str(tmp_path / "backbone.pth"), "--no-verify", "-o", str(tmp_path / "b.onnx")]) == 0
    assert "a backbone alone" in capsys.readouterr().err


def test_takes_the_bytes_of_pictures(tmp_path, capsys):
    source, out = save(tmp_path / "detector.pth", "coco"), tmp_path / "detector.onnx"
    assert main([str(source), "--preprocess", "mmdet", "--input-shape", SHAPE, "-o", str(out)]) == 0
    session = onnxruntime.InferenceSession(str(out))
    assert [(value.name, value.type) for value in session.get_inputs()] == [("images", "tensor(uint8)")]
    boxes = session.run(["boxes"], {"images": np.full((2, 70, 90, 3), 100, np.uint8)})[0]
    assert boxes.shape == (2, 20, 4) and boxes.max() <= 90
    assert main([str(source), "--preprocess", "imagenet", "-o", str(tmp_path / "x.onnx")]) == 2
    assert "--preprocess imagenet with the detector" in capsys.readouterr().err
