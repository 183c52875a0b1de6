"""What a detector consists of, read from its keys and config: odd settings, and parts that do not go together."""

import copy

import pytest
import torch

from apa_deploy.detection.load import detector_from_state
from apa_deploy.detection.read import read_detector
from apa_deploy.errors import InputError
from apa_deploy.loading.load import load
from tests.detection.small_detectors import make

RCNN, RPN, HEAD = "model.test_cfg.rcnn.", "model.test_cfg.rpn.", "model.roi_head.bbox_head"


def config_with(config, changes):
    config = copy.deepcopy(config)
    for path, value in changes.items():
        *above, last = path.split(".")
        place = config
        for name in above:
            place = place.setdefault(name, {})
        place[last] = value
    return config


OUT_OF_RANGE = [
    ({RCNN + "max_per_img": -1}, "max_per_img = -1; wanted a number from 1 .* Give --max-detections"),
    ({RCNN + "nms": {"iou_threshold": 1.5}}, "iou_threshold = 1.5; wanted a number from 0 to 1. Give --nms-iou"),
    ({RCNN + "score_thr": "0.05"}, "score_thr = '0.05'; wanted a number. Give --score-thr"),
    ({RPN + "nms_pre": -1}, "nms_pre = -1"),
    ({RPN + "max_per_img": 0}, "rpn.max_per_img = 0"),
    ({"model.data_preprocessor": {"pad_size_divisor": 0}}, "pad_size_divisor = 0"),
    ({"model.data_preprocessor": {"std": [1, 0, 1]}}, "std = .1, 0, 1.; wanted 3 numbers from"),
    ({"model.roi_head.bbox_roi_extractor": {"finest_scale": 0}}, "finest_scale = 0"),
    ({HEAD + ".bbox_coder": {"clip_border": False}}, "clip_border False"),
    ({HEAD + ".num_shared_fcs": 1}, "shared_fcs of 2 layers, and 1 by"),
]


@pytest.mark.parametrize(("changes", "says"), OUT_OF_RANGE)
def test_settings_that_compute_nothing_are_refused(changes, says):
    state, config = make("coco")
    with pytest.raises(InputError, match=says):
        read_detector(state, config_with(config, changes), 5)


def test_the_users_settings_stand_in_for_the_configs():
    state, config = make("coco")
    config = config_with(config, {RCNN + "max_per_img": -1, RCNN + "nms": {"iou_threshold": 7}})
    spec = read_detector(state, config, 5, max_detections=7, nms_iou=0.3, score_thr=None).spec
    assert (spec.max_detections, spec.nms_iou, spec.score_thr) == (7, 0.3, 0.02)
    assert not any("max_per_img" in text for text in read_detector(state, {}, 5, max_detections=7).notices)


@pytest.mark.parametrize(
    ("changes", "proposals", "most"),
    [({RPN + "nms_pre": 10}, 50, 20), ({RPN + "max_per_img": 3}, 3, 15), ({RPN + "nms_pre": 1}, 5, 20)],
)
def test_no_more_places_than_there_can_be(changes, proposals, most):
    """5 levels of `nms_pre`; 5 classes a proposal."""
    state, config = make("coco")
    spec = read_detector(state, config_with(config, changes), 5).spec
    assert (spec.rpn.proposals, spec.max_detections) == (proposals, most)


MMDET_2 = {"mean": [103.53, 116.28, 123.675], "std": [1.0, 1.0, 1.0], "to_rgb": False}
PIXELS = [
    ({}, ((123.675, 116.28, 103.53), True, 32)),
    ({"img_norm_cfg": MMDET_2}, ((103.53, 116.28, 123.675), False, 32)),
    ({"model.data_preprocessor": {"mean": [1, 2, 3]}}, ((1, 2, 3), False, 1)),
    ({"model.data_preprocessor": {"bgr_to_rgb": True, "pad_size_divisor": 64}}, ((0, 0, 0), True, 64)),
]


@pytest.mark.parametrize(("changes", "wanted"), PIXELS)
def test_pixels_as_mmdet_takes_them(changes, wanted):
    state, config = make("coco")
    spec = read_detector(state, config_with(config, changes), 5).spec
    assert (spec.mean, spec.bgr, spec.divisor) == wanted


@pytest.mark.parametrize(
    ("path", "value"), [("model.roi_head", 7), ("model.test_cfg.rcnn", "nms"), ("model.backbone", 50.0)]
)
def test_a_value_in_the_place_of_settings_is_refused(path, value):
    """Its settings would be the usual ones, and nobody would be told."""
    state, config = make("coco")
    with pytest.raises(InputError, match=rf"{value!r} where {path}.* stands"):
        read_detector(state, config_with(config, {path: value}), 5)


def under(prefix, state):
    return {prefix + key: value for key, value in state.items()}


LAYOUTS = {
    "of a wrapper": lambda s, meta: {"meta": meta, "state_dict": under("module.", s)},
    "of a module that holds it": lambda s, meta: {"meta": meta, "state_dict": under("model.detector.", s)},
    "with a loss beside": lambda s, meta: {
        "meta": meta,
        "state_dict": under("net.", s) | {"loss.w": torch.ones(1)},
    },
    "nested": lambda s, meta: {"meta": meta, "state_dict": {"state_dict": s}},
    "config of values": lambda s, meta: {"meta": {"cfg": meta["config"]}, "state_dict": s},
    "averaged": lambda s, meta: {
        "meta": meta,
        "state_dict": under("", {k: v * 0 for k, v in s.items()}),
        "ema_state_dict": under("module.", s) | {"steps": torch.tensor(3)},
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_detector_in_any_layout(layout, tmp_path):
    state, config = make("coco")
    torch.save(LAYOUTS[layout](state, {"config": config}), tmp_path / "d.pth")
    network = load(tmp_path / "d.pth", weights="ema" if layout == "averaged" else "model")
    spec = network.module.detector
    assert (spec.score_thr, spec.max_detections, spec.classes) == (0.02, 20, 5)
    assert torch.equal(
        network.module.state_dict()["neck.fpn_convs.0.conv.weight"], state["neck.fpn_convs.0.conv.weight"]
    )


def test_two_detectors_in_one_file_are_refused(tmp_path):
    state, _ = make("coco")
    torch.save(
        under("student.", state) | under("teacher.", {k: v * 2 for k, v in state.items()}), tmp_path / "d.pth"
    )
    with pytest.raises(InputError, match=r"weights of the network under .* and, others, under"):
        load(tmp_path / "d.pth")


def without(part):
    return lambda state: [state.pop(key) for key in list(state) if part in key]


def reshaped(key, *shape):
    return lambda state: state.update({key: torch.zeros(shape)})


PARTS = [
    (without("neck.lateral_convs.1"), "without neck.lateral_convs.1.conv.weight"),
    (without("rpn_head.rpn_conv"), "without rpn_head.rpn_conv.weight"),
    (without("fc_cls.bias"), "without roi_head.bbox_head.fc_cls.bias"),
    (without("conv_logits.bias"), "without roi_head.mask_head.conv_logits.bias"),
    (without("backbone.layer4"), "do not fit one another"),
    (without("mask_head.convs.0"), "mask_head.convs of 1 layers, and 2"),
    (reshaped("neck.lateral_convs.0.conv.weight", 16), "do not fit one another"),
    (reshaped("roi_head.mask_head.upsample.weight", 16), "do not fit one another"),
    (reshaped("roi_head.mask_head.convs.0.conv.weight", 16, 16, 4, 4), "masks of 30 x 30"),
    (reshaped("roi_head.mask_head.convs.1.conv.weight", 16, 8, 3, 3), "do not fit one another"),
    (reshaped("roi_head.mask_head.conv_logits.weight", 3, 16, 1, 1), "conv_logits of 3 classes, and 5"),
]


@pytest.mark.parametrize(("change", "says"), PARTS)
def test_parts_that_do_not_go_together_are_refused(change, says):
    state, config = make("coco")
    change(state)
    with pytest.raises(InputError, match=says):
        detector_from_state(state, config, class_count=5)
