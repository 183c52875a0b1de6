"""What a detector may consist of, by the keys of its state and the settings of its config; all else is unknown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .config import Config, value_at

# What each part of a config may be. A name that is missing here may compute something else.
_TYPES = {
    "type": ("FasterRCNN", "MaskRCNN", "CascadeRCNN", "TwoStageDetector"),
    "backbone.type": ("SE_ResNet", "ResNet", "ResNeXt"),
    "neck.type": ("FPN",),
    "rpn_head.type": ("RPNHead",),
    "rpn_head.anchor_generator.type": ("AnchorGenerator",),
    "rpn_head.bbox_coder.type": ("DeltaXYWHBBoxCoder",),
    "roi_head.type": ("StandardRoIHead", "CascadeRoIHead"),
    "data_preprocessor.type": ("DetDataPreprocessor",),
}
_BOX_HEADS = ("Shared2FCBBoxHead", "ConvFCBBoxHead")
_MASK_HEADS = ("FCNMaskHead",)
# Settings of a part, and the values with which it computes what is rebuilt here.
_FIXED: dict[str, dict[str, tuple[Any, ...]]] = {
    "backbone": {
        "out_indices": ((0, 1, 2, 3),), "strides": ((1, 2, 2, 2),), "dilations": ((1, 1, 1, 1),),
        "style": ("pytorch",), "num_stages": (4,),
    },
    "neck": {
        "start_level": (0,), "end_level": (-1,), "add_extra_convs": (False,), "norm_cfg": (), "act_cfg": (),
        "num_outs": (5,), "upsample_cfg.mode": ("nearest",),
    },
    "rpn_head": {
        "num_convs": (1,), "loss_cls.use_sigmoid": (True,), "bbox_coder.add_ctr_clamp": (False,),
        "bbox_coder.clip_border": (True,),
    },
    "rpn_head.anchor_generator": {
        "center_offset": (0, 0.0), "scale_major": (True,), "octave_base_scale": (), "base_sizes": (), "centers": (),
    },
}  # fmt: skip


def model_setting(config: Config, path: str, default: Any = None) -> Any:
    """What the config's `model` says at a path of names and positions."""
    return value_at(config, f"model.{path}", default)


def list_heads(config: Config, kind: str) -> list[str]:
    """Paths in the config of one head, or of each of a cascade."""
    found = model_setting(config, f"roi_head.{kind}")
    if isinstance(found, (list, tuple)) and found:
        return [f"roi_head.{kind}.{i}" for i in range(len(found))]
    return [f"roi_head.{kind}"]


def list_unknown_parts(state: Mapping[str, Any], config: Config) -> list[str]:
    """Parts that may compute something else than what is rebuilt here, each once."""
    return list(dict.fromkeys([*_unknown_keys(state), *_unknown_types(config), *_unknown_settings(config)]))


def _unknown_keys(state: Mapping[str, Any]) -> list[str]:
    """Heads by the first names of keys that nothing here reads, e.g. "bbox_head.cls_convs"."""
    head = r"(\d+\.)?"
    known = re.compile(
        r"backbone\.|neck\.(lateral|fpn)_convs\.\d+\.conv\.(weight|bias)$"
        r"|rpn_head\.rpn_(conv|cls|reg)\.(weight|bias)$"
        rf"|roi_head\.bbox_head\.{head}(shared_fcs\.\d+\.(weight|bias)|fc_reg\.(weight|bias))$"
        rf"|roi_head\.bbox_head\.{head}fc_cls\.(weight|bias|g|s_|tempearture)$"
        rf"|roi_head\.mask_head\.{head}(convs\.\d+\.conv\.(weight|bias)|upsample\.(weight|bias))$"
        rf"|roi_head\.mask_head\.{head}upsample\.(channel_compressor|content_encoder)\.(weight|bias)$"
        rf"|roi_head\.mask_head\.{head}conv_logits\.(weight|bias|tempearture)$"
    )
    unknown = [key for key in state if not known.match(key)]
    if any("patch_embed" in key for key in state):
        unknown.append("backbone.patch_embed")
    return [".".join(key.split(".")[:2])[:80] for key in unknown][:8]


def _unknown_types(config: Config) -> Iterator[str]:
    for path, legal in _TYPES.items():
        found = model_setting(config, path)
        if found is not None and found not in legal:
            yield f"{path} {found}"[:80]
    for kind, legal in (("bbox_head", _BOX_HEADS), ("mask_head", _MASK_HEADS)):
        for where in list_heads(config, kind):
            found = model_setting(config, f"{where}.type")
            if found is not None and found not in legal:
                yield f"{where} {found}"[:80]
    for extractor in ("bbox_roi_extractor", "mask_roi_extractor"):
        for where in list_heads(config, extractor):
            yield from _unless(config, f"{where}.type", ("SingleRoIExtractor",))
            yield from _unless(config, f"{where}.roi_layer.type", ("RoIAlign",))
            yield from _unless(config, f"{where}.roi_layer.aligned", (True,))
            yield from _unless(config, f"{where}.roi_layer.pool_mode", ("avg",))


def _unknown_settings(config: Config) -> Iterator[str]:
    for part, settings in _FIXED.items():
        for name, legal in settings.items():
            yield from _unless(config, f"{part}.{name}", legal)
    for where in list_heads(config, "bbox_head"):
        yield from _unless(config, f"{where}.with_avg_pool", (False,))
        yield from _unless(config, f"{where}.bbox_coder.type", ("DeltaXYWHBBoxCoder",))
        yield from _unless(config, f"{where}.bbox_coder.add_ctr_clamp", (False,))
        yield from _unless(config, f"{where}.bbox_coder.clip_border", (True,))
    for where in ("test_cfg.rpn.nms", "test_cfg.rcnn.nms"):
        yield from _unless(config, f"{where}.type", ("nms",))
        yield from _unless(config, f"{where}.class_agnostic", (False,))
    yield from (part for part in ("roi_head.shared_head", "roi_head.semantic_head") if model_setting(config, part))


def _unless(config: Config, path: str, legal: tuple[Any, ...]) -> list[str]:
    found = model_setting(config, path)
    found = tuple(found) if isinstance(found, list) else found
    return [] if found is None or found in legal else [f"{path} {found!r}"[:80]]
