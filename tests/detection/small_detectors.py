"""Narrow detectors with random weights, one for each kind of part: quick to trace, and they do detect."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from apa_deploy.architectures.resnet import ResNet
from apa_deploy.architectures.spec import Spec

CHANNELS, HIDDEN = 16, 32
SIZE = (96, 128)  # of the padded picture; of it 100 x 80 pixels are the picture

Config = dict[str, Any]


def linear(classes: int = 5, **changes: Any) -> Config:
    return {
        "num_classes": classes,
        "loss_cls": {"type": "CrossEntropyLoss"},
        "reg_class_agnostic": False,
        **changes,
    }


WCLINEAR = {"type": "WCLinear", "s_trainable": False, "s": 40}
GUMBEL = {"type": "DropLoss", "use_classif": "gumbel", "use_sigmoid": True}
SIGMOID = {"type": "CrossEntropyCustomLoss", "use_sigmoid": True}
CARAFE = {"type": "carafe", "scale_factor": 2, "up_kernel": 5, "up_group": 1}
NORMED = {"type": "NormedLinear", "tempearture": 8}
FIXED = {"type": "NormedConv2d", "tempearture": 20}
# name -> (box heads, mask head or None, learned activations)
KINDS: dict[str, tuple[list[Config], Config | None, bool]] = {
    "coco": ([linear()], {}, True),
    "lvis_r50": (
        [linear(loss_cls=GUMBEL)],
        {"predictor_cfg": {"type": "NormedConv2d", "learnable_temp": True}, "upsample_cfg": CARAFE},
        True,
    ),
    "lvis_r101": ([linear(loss_cls=GUMBEL)], {"predictor_cfg": FIXED}, True),
    "v3det_faster": ([linear(cls_predictor_cfg=WCLINEAR, reg_class_agnostic=True)], None, True),
    "v3det_cascade": ([linear(cls_predictor_cfg=WCLINEAR, reg_class_agnostic=True)] * 3, None, True),
    "v3det_baseline": ([linear(cls_predictor_cfg=WCLINEAR, reg_class_agnostic=True)], None, False),
    "normed_sigmoid": (
        [linear(loss_cls=SIGMOID, cls_predictor_cfg=NORMED, reg_class_agnostic=True)],
        {"predictor_cfg": {"type": "NormedConv2d", "tempearture": 50}},
        False,
    ),
    "cascade_by_class": ([linear()] * 2, {}, False),
}  # fmt: skip


def backbone_spec(learned: bool) -> Spec:
    return Spec(
        cifar=False, bottleneck=True, depths=(1, 1, 1, 1), in_channels=3, widths=(4, 8, 8, 8), groups=1,
        base_width=64, gate="se" if learned else "none", learned_units=learned, learned_channel_gate=learned,
        learned_spatial_gate=False, normed_gate=learned, reduction=16, heads=(), contrastive=0,
        unit_floor="clamp 1e-4",
    )  # fmt: skip


def make(kind: str, seed: int = 0) -> tuple[dict[str, torch.Tensor], Config]:
    """A state dict in mmdet's keys, and the config that goes with it."""
    heads, mask, learned = KINDS[kind]
    torch.manual_seed(seed)
    spec = backbone_spec(learned)
    state = {f"backbone.{k}": v.clone() for k, v in ResNet(spec).state_dict().items()}
    shapes: dict[str, tuple[int, ...]] = {}
    for i, width in enumerate(spec.widths):
        shapes[f"neck.lateral_convs.{i}.conv"] = (CHANNELS, 4 * width, 1, 1)
        shapes[f"neck.fpn_convs.{i}.conv"] = (CHANNELS, CHANNELS, 3, 3)
    shapes |= {"rpn_head.rpn_conv": (CHANNELS, CHANNELS, 3, 3), "rpn_head.rpn_cls": (3, CHANNELS, 1, 1)}
    shapes["rpn_head.rpn_reg"] = (12, CHANNELS, 1, 1)
    for i, head in enumerate(heads):
        prefix = "roi_head.bbox_head." + (f"{i}." if len(heads) > 1 else "")
        rows = head["num_classes"] + (head["loss_cls"]["type"] == "CrossEntropyLoss")
        shapes[f"{prefix}shared_fcs.0"] = (HIDDEN, CHANNELS * 49)
        shapes[f"{prefix}shared_fcs.1"] = (HIDDEN, HIDDEN)
        shapes[f"{prefix}fc_cls"] = (rows, HIDDEN)
        shapes[f"{prefix}fc_reg"] = (4 if head["reg_class_agnostic"] else 4 * head["num_classes"], HIDDEN)
        if "WCLinear" in str(head):
            state[f"{prefix}fc_cls.g"] = 1 + 0.1 * torch.randn(rows)
    if mask is not None:
        shapes |= _mask_shapes("roi_head.mask_head.", heads[0]["num_classes"], mask, state)
    for key, shape in shapes.items():
        state[f"{key}.weight"] = torch.randn(shape) * (2 / np.prod(shape[1:])) ** 0.5
        state[f"{key}.bias"] = 0.1 * torch.randn(shape[1] if key.endswith("upsample") else shape[0])
        if key.endswith(("rpn_reg", "fc_reg")):
            state[f"{key}.weight"] *= 0.1
    return state, _config(heads, mask, learned)


def _mask_shapes(
    prefix: str, classes: int, mask: Config, state: dict[str, torch.Tensor]
) -> dict[str, tuple[int, ...]]:
    shapes = {f"{prefix}convs.{i}.conv": (CHANNELS, CHANNELS, 3, 3) for i in range(2)}
    if "upsample_cfg" in mask:
        shapes[f"{prefix}upsample.channel_compressor"] = (8, CHANNELS, 1, 1)
        shapes[f"{prefix}upsample.content_encoder"] = (100, 8, 3, 3)
    else:
        shapes[f"{prefix}upsample"] = (CHANNELS, CHANNELS, 2, 2)
    shapes[f"{prefix}conv_logits"] = (classes, CHANNELS, 1, 1)
    if "learnable_temp" in str(mask):
        state[f"{prefix}conv_logits.tempearture"] = torch.tensor(4.5)
    return shapes


def _config(heads: list[Config], mask: Config | None, learned: bool) -> Config:
    roi_head: Config = {
        "type": "CascadeRoIHead" if len(heads) > 1 else "StandardRoIHead",
        "bbox_head": [{"type": "Shared2FCBBoxHead", **h} for h in heads] if len(heads) > 1 else heads[0],
    }
    if mask is not None:
        roi_head["mask_head"] = {"type": "FCNMaskHead", "num_convs": 2, **mask}
    rcnn = {"score_thr": 0.02, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 20}
    rpn = {"nms_pre": 200, "max_per_img": 100, "nms": {"type": "nms", "iou_threshold": 0.7}, "min_bbox_size": 0}
    backbone = {"type": "SE_ResNet" if learned else "ResNet", "depth": 50}
    return {"model": {"backbone": backbone, "roi_head": roi_head, "test_cfg": {"rcnn": rcnn, "rpn": rpn}}}


def picture(batch: int = 1, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Normalised images (N, 3, H, W) of noise and blocks, padded, and the sizes of their pictures."""
    generator = np.random.default_rng(seed)
    images = np.zeros((batch, 3, *SIZE), np.float32)
    valid = np.array([[100 - 10 * i, 80 - 7 * i] for i in range(batch)], np.float32)
    coarse = generator.standard_normal((batch, 3, SIZE[0] // 8, SIZE[1] // 8)).repeat(8, 2).repeat(8, 3)
    noise = coarse + 0.3 * generator.standard_normal(images.shape)
    for i, (width, height) in enumerate(valid.astype(int)):
        images[i, :, :height, :width] = noise[i, :, :height, :width]
    return images, valid
