"""Keys, shapes and config of a checkpoint -> `DetectorSpec`; what is unknown is refused by its name.

Shapes say the family, the stages, the classes, per-class or agnostic boxes, deconvolution or CARAFE, WCLinear and
a learned temperature. The config says the rest. Where both are silent the defaults of mmdet and of upstream's
layers hold, and a notice names them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..errors import InputError
from .config import Config, value_at
from .parts import list_heads, list_unknown_parts, model_setting
from .spec import BoxHead, Coder, DetectorSpec, MaskHead, Predictor, RoiAlign, Rpn

State = Mapping[str, Tensor]
PARTS = ("backbone.", "neck.", "rpn_head.", "roi_head.")

_LOSSES = {"CrossEntropyLoss": "softmax", "CrossEntropyCustomLoss": "", "DropLoss": ""}
_PREDICTORS = {
    "Linear": "linear", "WCLinear": "wclinear", "NormedLinear": "normed", "NormedConv2d": "normed",
    "Conv": "linear", "Conv2d": "linear",
}  # fmt: skip
# Least and most of settings, by the last name of their path: outside of these nothing can be computed.
_RANGES = {
    "iou_threshold": (0, 1), "max_per_img": (1, 100_000), "nms_pre": (1, 100_000), "pad_size_divisor": (1, 4096),
    "finest_scale": (1, 1e6), "sampling_ratio": (-1, 64), "scales": (1e-3, 1e4), "ratios": (1e-3, 1e3),
    "std": (1e-9, 1e9),
}  # fmt: skip


class DetectorError(InputError):
    """A detector has parts that are not known here. `parts`: their names."""

    def __init__(self, parts: Iterable[str], saw: str = "") -> None:
        self.parts = tuple(parts)
        super().__init__(
            saw or f"a detector with {', '.join(self.parts)}",
            "a two-stage R-CNN of mmdet: ResNet or SE_ResNet, FPN, RPN, (cascade) box heads, FCN mask heads",
            "Export its backbone alone with --detector backbone.",
        )


@dataclass(frozen=True)
class Read:
    """The detector, what had to be assumed, and how many classes the config names (0: unsaid)."""

    spec: DetectorSpec
    notices: tuple[str, ...] = ()


def has_heads(state: State) -> bool:
    """Whether a state dict is a detector's, more than a backbone under its prefix."""
    return any(key.startswith("backbone.") for key in state) and any(not k.startswith("backbone.") for k in state)


def read_detector(state: State, config: Config | None, class_count: int = 0, **given: Any) -> Read:
    """What the detector of `state` consists of.

    Args:
        config: of its training, or None.
        class_count: how many class names the checkpoint holds, 0 for none.
        given: score_thr, nms_iou, max_detections of the last NMS, in place of the config's; None for no change.

    Raises:
        DetectorError: parts are unknown; its `parts` name them.
        InputError: what has no default is said nowhere, or shapes and config contradict.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    reader = _Reader(state, _as_mmdet_3(config or {}), class_count, chosen)
    reader.refuse_unknown()
    spec = reader.spec()
    return Read(spec, tuple(reader.notices(config)))


def _as_mmdet_3(config: Config) -> Config:
    """mmdet 2 says in `img_norm_cfg` what `model.data_preprocessor` says since."""
    old, model = config.get("img_norm_cfg"), config.get("model")
    if not isinstance(old, dict) or not isinstance(model, dict) or "data_preprocessor" in model:
        return config
    new = {"bgr_to_rgb": old.get("to_rgb", True), "pad_size_divisor": DetectorSpec.divisor}
    new |= {name: old[name] for name in ("mean", "std") if name in old}
    return config | {"model": model | {"data_preprocessor": new}}


@dataclass
class _Reader:
    state: State
    config: Config
    class_count: int
    given: dict[str, Any]
    assumed: list[str] = field(default_factory=list)

    def get(self, path: str, default: Any = None) -> Any:
        return model_setting(self.config, path, default)

    def shape(self, key: str, rank: int) -> tuple[int, ...]:
        if key not in self.state:
            raise DetectorError([], f"a detector without {key}")
        shape = tuple(self.state[key].shape)
        if len(shape) != rank or 0 in shape:
            raise DetectorError([], f"{key} of shape {shape}")
        return shape

    def numbers(
        self, path: str, default: tuple[float, ...], length: int = 0, do: str = "Correct it in a file for --config."
    ) -> tuple[float, ...]:
        """A finite number or a sequence of them from the config.

        Raises:
            InputError: it is something else, of another length or out of its range.
        """
        found = self.get(path, default)
        values = tuple(found) if isinstance(found, (list, tuple)) else (found,)
        least, most = _RANGES.get(path.rsplit(".", 1)[-1], (-math.inf, math.inf))
        legal = all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values)
        legal = legal and len(values) == (length or max(1, len(values)))
        if not legal or not all(least <= v <= most for v in values):
            wanted = f"{length} numbers" if length > 1 else "a number" if length else "numbers"
            wanted += f" from {least:g} to {most:g}" if most < math.inf else ""
            raise InputError(f"the config's {path} = {found!r}"[:160], wanted, do)
        return tuple(float(v) for v in values)

    def number(self, path: str, default: float) -> float:
        return self.numbers(path, (default,), 1)[0]

    def refuse_unknown(self) -> None:
        if parts := list_unknown_parts(self.state, self.config):
            raise DetectorError(parts)

    def spec(self) -> DetectorSpec:
        boxes = tuple(self._box_head(prefix, i) for i, prefix in enumerate(self._prefixes("bbox_head", "fc_cls")))
        if not boxes:
            raise DetectorError([], "a detector without roi_head.bbox_head")
        masks = tuple(
            self._mask_head(prefix, i, boxes[0].classes)
            for i, prefix in enumerate(self._prefixes("mask_head", "conv_logits"))
        )
        resize, keep_ratio = self._resize()
        family = "CascadeRCNN" if len(boxes) > 1 else "FasterRCNN"
        rpn, most = self._rpn(), int(self._of_last_nms("max_detections", "max_per_img", 100))
        return DetectorSpec(
            name=str(self.get("type") or (family if not masks else family.replace("Faster", "Mask"))),
            backbone=str(self.get("backbone.type", "")),
            rpn=rpn,
            boxes=boxes,
            masks=masks,
            align=self._align("bbox_roi_extractor", self._side(boxes[0].prefix)),
            score_thr=self._of_last_nms("score_thr", "score_thr", 0.05),
            nms_iou=self._of_last_nms("nms_iou", "nms.iou_threshold", 0.5),
            max_detections=min(most, rpn.proposals * boxes[0].classes),  # there are no more
            mask_thr=self.number("test_cfg.rcnn.mask_thr_binary", 0.5),
            resize=resize,
            keep_ratio=keep_ratio,
            **self._pixels(),
        )

    def _of_last_nms(self, name: str, path: str, default: float) -> float:
        """The user's own setting, or the config's."""
        if name in self.given:
            return float(self.given[name])
        path = f"test_cfg.rcnn.{path}"
        if self.get(path) is None:
            self.assumed.append(f"{path.rsplit('.', 1)[-1]} {default:g}")
        return self.numbers(path, (default,), 1, f"Give --{name.replace('_', '-')}.")[0]

    def _prefixes(self, kind: str, layer: str) -> list[str]:
        stem = f"roi_head.{kind}."
        if f"{stem}{layer}.weight" in self.state:
            return [stem]
        found = [i for i in range(16) if f"{stem}{i}.{layer}.weight" in self.state]
        return [f"{stem}{i}." for i in found]

    def _side(self, prefix: str) -> int:
        """Of the box head's RoIAlign: its first layer reads channels x side x side."""
        channels = self.shape("neck.fpn_convs.0.conv.weight", 4)[0]
        inputs = self.shape(f"{prefix}shared_fcs.0.weight", 2)[1]
        side = math.isqrt(inputs // channels)
        if side < 1 or side * side * channels != inputs:
            raise DetectorError([], f"{prefix}shared_fcs.0.weight of {inputs} inputs after {channels} channels")
        return side

    def _rpn(self) -> Rpn:
        usual, where = Rpn(), "rpn_head.anchor_generator"
        scales = self.numbers(f"{where}.scales", usual.scales)
        ratios = self.numbers(f"{where}.ratios", usual.ratios)
        strides = tuple(int(v) for v in self.numbers(f"{where}.strides", usual.strides, 5))
        anchors = self.shape("rpn_head.rpn_cls.weight", 4)[0]
        if anchors != len(scales) * len(ratios) or strides != usual.strides:
            said = f"the config's {len(scales)} scales, {len(ratios)} ratios, strides {strides}"
            raise DetectorError([], f"rpn_head with {anchors} anchors a place, {said}")
        if self.get(f"{where}.scales") is None:
            self.assumed.append("anchors of scale 8, ratios 0.5, 1, 2")
        before_nms = int(self.number("test_cfg.rpn.nms_pre", usual.before_nms))
        proposals = int(self.number("test_cfg.rpn.max_per_img", usual.proposals))
        return Rpn(
            scales=scales,
            ratios=ratios,
            strides=strides,
            coder=self._coder("rpn_head.bbox_coder", Coder()),
            before_nms=before_nms,
            nms_iou=self.number("test_cfg.rpn.nms.iou_threshold", usual.nms_iou),
            proposals=min(proposals, len(strides) * before_nms),  # there are no more
            smallest=self.number("test_cfg.rpn.min_bbox_size", usual.smallest),
        )

    def _coder(self, path: str, usual: Coder) -> Coder:
        means = self.numbers(f"{path}.target_means", usual.means, 4)
        stds = self.numbers(f"{path}.target_stds", usual.stds, 4)
        return Coder(means, stds)  # type: ignore[arg-type]  # four each: checked

    def _align(self, extractor: str, size: int) -> RoiAlign:
        where = list_heads(self.config, extractor)[0]
        strides = tuple(int(v) for v in self.numbers(f"{where}.featmap_strides", RoiAlign().strides, 4))
        said = self.numbers(f"{where}.roi_layer.output_size", (size,))  # one side, or both
        if set(said) != {size} or strides != RoiAlign().strides:
            raise DetectorError([], f"{where}: output_size {said} (keys say {size}), featmap_strides {strides}")
        samples = int(self.number(f"{where}.roi_layer.sampling_ratio", 0))
        return RoiAlign(size, max(0, samples), int(self.number(f"{where}.finest_scale", 56)), strides)

    def _head(self, kind: str, stage: int) -> str:
        """The config's path of a stage's head; the last of them where it has fewer."""
        paths = list_heads(self.config, kind)
        return paths[min(stage, len(paths) - 1)]

    def _agree(self, path: str, key: str, layers: int, usual: int) -> None:
        if (said := self.get(path, usual)) != layers:
            raise DetectorError([], f"{key} of {layers} layers, and {said!r} by the config's {path}"[:200])

    def _box_head(self, prefix: str, stage: int) -> BoxHead:
        where = self._head("bbox_head", stage)
        rows = self.shape(f"{prefix}fc_cls.weight", 2)[0]
        boxes = self.shape(f"{prefix}fc_reg.weight", 2)[0]
        layers = len([k for k in self.state if re.fullmatch(re.escape(prefix) + r"shared_fcs\.\d+\.weight", k)])
        two = self.get(f"{where}.type") == "Shared2FCBBoxHead"
        self._agree(f"{where}.num_shared_fcs", f"{prefix}shared_fcs", layers, 2 if two else layers)
        agnostic = boxes == 4
        score, background = self._score(where, rows, boxes)
        classes = rows - background
        said = self.get(f"{where}.num_classes")
        if classes < 1 or (said is not None and said != classes) or boxes not in (4, 4 * classes):
            saw = f"{prefix}fc_cls of {rows} rows and fc_reg of {boxes}, the config's num_classes {said}"
            raise InputError(saw, "shapes and config of one detector", "Give the right one with --config.")
        usual = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
        coder = self._coder(f"{where}.bbox_coder", Coder(stds=usual[min(stage, 2)]))
        if self.get(f"{where}.bbox_coder.target_stds") is None:
            self.assumed.append(f"box stds {', '.join(f'{v:g}' for v in coder.stds)}")
        predictor = self._predictor(f"{where}.cls_predictor_cfg", f"{prefix}fc_cls")
        return BoxHead(prefix, classes, background, score, agnostic, layers, predictor, coder)

    def _score(self, where: str, rows: int, boxes: int) -> tuple[str, bool]:
        """The score function, and whether the last of the rows is the background."""
        loss = self.get(f"{where}.loss_cls.type")
        sigmoid = bool(self.get(f"{where}.loss_cls.use_sigmoid", False))
        if loss is not None and loss not in _LOSSES:
            raise DetectorError([f"{where}.loss_cls {loss}"])
        if loss == "CrossEntropyCustomLoss":
            return ("sigmoid", False) if sigmoid else ("softmax", True)
        if loss == "DropLoss":
            kind = self.get(f"{where}.loss_cls.use_classif", "gumbel")
            if kind not in ("gumbel", "sigmoid"):
                raise DetectorError([f"{where}.loss_cls.use_classif {kind}"])
            return kind, False
        if loss is None and (boxes == 4 * rows or (self.class_count == rows and boxes == 4)):
            raise InputError(
                f"{rows} class scores without a background among them, and no loss_cls in a config",
                "the score function: gumbel (DropLoss) or sigmoid (CrossEntropyCustomLoss)",
                "Give the training's config with --config: roi_head.bbox_head.loss_cls says it.",
            )
        if loss is None:
            self.assumed.append("softmax scores, the last class the background")
        return "softmax", True

    def _predictor(self, where: str, key: str) -> Predictor:
        said = self.get(f"{where}.type")
        self.shape(f"{key}.bias", 1)
        if said is not None and said not in _PREDICTORS:
            raise DetectorError([f"{where} {said}"])
        usual, learned = Predictor(), f"{key}.tempearture" in self.state
        from_keys = "wclinear" if f"{key}.g" in self.state else "normed" if learned else ""
        kind = from_keys or _PREDICTORS.get(str(said), "linear")
        if said is not None and _PREDICTORS[said] != kind:
            raise DetectorError([], f"{key} with the keys of {kind}, the config's {where} {said}")
        if self.get(f"{where}.norm_over_kernel"):
            raise DetectorError([f"{where}.norm_over_kernel"])
        if kind == "wclinear":
            if self.get(f"{where}.s") is None and f"{key}.s_" not in self.state:
                self.assumed.append(f"WCLinear's s {usual.scale:g}")
            return replace(usual, kind=kind, scale=self.number(f"{where}.s", usual.scale))
        if kind == "normed":
            return Predictor(
                kind,
                temperature=self.number(f"{where}.tempearture", usual.temperature),
                learned=learned,
                power=self.number(f"{where}.power", usual.power),
                eps=self.number(f"{where}.eps", usual.eps),
            )
        return usual

    def _mask_head(self, prefix: str, stage: int, classes: int) -> MaskHead:
        where = self._head("mask_head", stage)
        rows = self.shape(f"{prefix}conv_logits.weight", 4)[0]
        layers = len([k for k in self.state if re.fullmatch(re.escape(prefix) + r"convs\.\d+\.conv\.weight", k)])
        self._agree(f"{where}.num_convs", f"{prefix}convs", layers, layers)
        carafe = f"{prefix}upsample.content_encoder.weight" in self.state
        if not carafe and f"{prefix}upsample.weight" not in self.state:
            raise DetectorError([f"{prefix}upsample {self.get(f'{where}.upsample_cfg.type', 'none')}"])
        kernel = int(self.number(f"{where}.upsample_cfg.up_kernel", 5))
        if carafe:
            maps = self.shape(f"{prefix}upsample.content_encoder.weight", 4)[0]
            scale, group = (
                self.get(f"{where}.upsample_cfg.{n}", d) for n, d in (("scale_factor", 2), ("up_group", 1))
            )
            if (scale, group) != (2, 1) or maps != 4 * kernel * kernel:
                raise DetectorError([f"CARAFE of scale {scale}, groups {group}, kernel {kernel}, {maps} maps"])
        predictor = self._predictor(f"{where}.predictor_cfg", f"{prefix}conv_logits")
        align = self._align("mask_roi_extractor", int(self.number(f"{where}.roi_feat_size", 14)))
        agnostic = rows == 1 and bool(self.get(f"{where}.class_agnostic", self.class_count != 1))
        if rows != (1 if agnostic else classes):
            raise DetectorError([], f"{prefix}conv_logits of {rows} classes, and {classes} of the box head")
        upsample = "carafe" if carafe else "deconv"
        return MaskHead(prefix, layers, upsample, kernel, agnostic, predictor, align)

    def _pixels(self) -> dict[str, Any]:
        """The spec's mean, std, bgr and divisor; where the config has a preprocessor, mmdet's own defaults hold."""
        usual, path = DetectorSpec("", "", Rpn(), ()), "data_preprocessor"
        silent = self.get(path) is None
        mean, std = (usual.mean, usual.std) if silent else ((0.0,) * 3, (1.0,) * 3)
        return {
            "mean": self.numbers(f"{path}.mean", mean, 3),
            "std": self.numbers(f"{path}.std", std, 3),
            "bgr": bool(self.get(f"{path}.bgr_to_rgb", usual.bgr and silent)),
            "divisor": int(self.number(f"{path}.pad_size_divisor", usual.divisor if silent else 1)),
        }

    def _resize(self) -> tuple[tuple[int, int], bool]:
        """Of the first Resize in the test pipeline."""
        for path in ("test_pipeline", "test_dataloader.dataset.pipeline"):
            steps = value_at(self.config, path, ())
            for step in steps if isinstance(steps, (list, tuple)) else ():
                if isinstance(step, Mapping) and step.get("type") == "Resize":
                    scale = step.get("scale")
                    pair = list(scale) if isinstance(scale, (list, tuple)) else []
                    if len(pair) == 2 and all(isinstance(v, int) and 0 < v < 1 << 15 for v in pair):
                        return (pair[0], pair[1]), bool(step.get("keep_ratio", False))
        return DetectorSpec("", "", Rpn(), ()).resize, True

    def notices(self, config: Config | None) -> list[str]:
        if not self.assumed:
            return []
        where = "the config is silent" if config else "the checkpoint holds no config"
        said = "; ".join(dict.fromkeys(self.assumed))
        return [f"{where} on these, and the usual values are taken: {said}; --config gives others"]
