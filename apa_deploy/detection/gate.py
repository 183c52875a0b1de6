"""A detector's file judged: its raw tensors on fixed proposals, then its detections, then whether there are any.

NMS alone proves little: one flip and everything behind it differs, and no detection equals no detection. So

1. the file's graph is cut where NMS decides, and the reference's proposals and boxes are given to both sides: each
   raw tensor against float64, with the limit of the model gate;
2. the whole file runs as it is, and its detections are matched with the float64 ones (`matching`);
3. a picture in which the reference detects nothing proves nothing: exit 1.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import helper
from torch import Tensor

from ..errors import GateError
from ..graph.pieces import end_graph_at
from ..parity.gain import check_gains, gain_ranges
from ..parity.limits import gain_room, least_cosine, model_limit, precision_lost
from ..parity.model_gate import has_evidence
from ..records.parity import DetectionCheck, GainCheck, OutputCheck
from .matching import Found, average_precision, match, overlap
from .module import Detections, Detector
from .rows import read_detections
from .spec import IMAGES, VALID

Feed = dict[str, np.ndarray]
_MASKS = 16  # boxes on which mask heads are compared: each costs 300 million products
_SAME_PROPOSAL, _PROPOSALS = 0.95, 0.99  # IoU, and the least share that must be found again


@dataclass(frozen=True)
class Reference:
    """What the float64 module says about one feed, and the fixed values that both sides are given."""

    raw: Feed
    fixed: Feed
    proposals: np.ndarray
    detections: list[Detections]


@torch.inference_mode()
def run_reference(module: Detector, feed: Feed) -> Reference:
    """Everything that the gate compares, from a float64 `module`.

    Raises:
        GateError: nothing is detected in one of the pictures.
    """
    images, valid = (torch.from_numpy(feed[name]).double() for name in (IMAGES, VALID))
    pyramid = module.neck(module.backbone(images))
    objectness, deltas = module.rpn_head(pyramid)
    spec, proposals, found = module.detector, [], []
    for i in range(len(images)):
        maps = [level[i] for level in pyramid]
        own = module.proposals([o[i] for o in objectness], [d[i] for d in deltas], valid[i])
        proposals.append(own)
        if not module.raw:
            logits, boxes, _ = module.heads(maps, own[:, :4], valid[i])
            found.append(module.final(maps, logits, boxes, with_masks=False))
    if not all(len(one.scores) for one in found):
        raise GateError(
            "nothing detected by the float64 reference: no detection against none proves nothing",
            "pictures in which it finds something",
            "Give such pictures with --inputs, or skip the gate with --no-verify.",
        )
    fixed = _fix_inputs(module, pyramid, proposals, found, valid)
    raw = run_raw(module, feed, fixed)
    rows = np.stack([_pad(p.numpy(), spec.rpn.proposals) for p in proposals])
    return Reference(raw, fixed, rows, found)


def _fix_inputs(
    module: Detector, pyramid: list[Tensor], proposals: list[Tensor], found: list[Detections], valid: Tensor
) -> Feed:
    """RoIs of each stage, and boxes and labels for the masks, rounded to float32, which both sides can take."""
    spec = module.detector
    fixed: dict[str, list[np.ndarray]] = {}
    for i, own in enumerate(proposals):
        rois = own[:, :4].float().to(own.dtype)
        _, _, stages = module.heads([level[i] for level in pyramid], rois, valid[i])
        for k, (boxes, _, _) in enumerate(stages):
            fixed.setdefault(f"rois{k}", []).append(_pad(boxes.float().numpy(), spec.rpn.proposals))
        if found and spec.masks:
            kept = slice(0, _MASKS)
            for name, values in (("boxes", found[i].boxes[kept].float()), ("labels", found[i].labels[kept])):
                fixed.setdefault(name, []).append(_pad(values.numpy(), spec.max_detections))
    return {name: np.stack(values) for name, values in fixed.items()}


def _pad(values: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([values, np.zeros((length - len(values), *values.shape[1:]), values.dtype)])


@torch.inference_mode()
def run_raw(module: Detector, feed: Feed, fixed: Feed) -> Feed:
    """The raw tensors of `module` in its own float type, on fixed RoIs and boxes, by their names in a graph."""
    dtype = next(module.parameters()).dtype
    images, valid = (torch.from_numpy(feed[name]).to(dtype) for name in (IMAGES, VALID))
    pyramid = module.neck(module.backbone(images))
    objectness, deltas = module.rpn_head(pyramid)
    named: dict[str, list[Tensor]] = {}
    for i in range(len(images)):
        maps = [level[i] for level in pyramid]
        rois = [torch.from_numpy(fixed[name][i]).to(dtype) for name in sorted(fixed) if name.startswith("rois")]
        logits, _, stages = module.heads(maps, rois[0], valid[i], rois[1:])
        named.setdefault("cls_score", []).append(logits)
        for k, (_, _, boxes) in enumerate(stages):
            last = k + 1 == len(stages)
            named.setdefault("bbox_pred" if last else f"bbox_pred_stage{k}", []).append(boxes)
        if "boxes" in fixed:
            some = (
                torch.from_numpy(fixed["boxes"][i][:_MASKS]).to(dtype),
                torch.from_numpy(fixed["labels"][i][:_MASKS]),
            )
            for k, one in enumerate(module.mask_logits(maps, *some)):
                named.setdefault(f"mask_logits{k}", []).append(one.flatten(1))
    levels = [("fpn", pyramid), ("rpn_cls", objectness), ("rpn_reg", deltas)]
    made = {f"{name}{i}": level for name, maps in levels for i, level in enumerate(maps)}
    return {name: v.double().numpy() for name, v in (made | {k: torch.stack(v) for k, v in named.items()}).items()}


def cut_at(model: onnx.ModelProto, fixed: Mapping[str, np.ndarray], outputs: Sequence[str]) -> onnx.ModelProto:
    """The part of `model` that makes `outputs`, with the values named in `fixed` as further inputs.

    What the graph itself would say is there as `NAME/made`.
    """
    cut = copy.deepcopy(model)
    for node in cut.graph.node:
        node.output[:] = [f"{name}/made" if name in fixed else name for name in node.output]
    del cut.graph.output[:]
    for name, value in fixed.items():
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        cut.graph.input.append(helper.make_tensor_value_info(name, kind, ["batch", *value.shape[1:]]))
    cut = end_graph_at(cut, outputs)
    read = {name for node in cut.graph.node for name in node.input}
    inputs = [entry for entry in cut.graph.input if entry.name in read]
    del cut.graph.input[:]
    cut.graph.input.extend(inputs)
    return cut


def check_raw(
    runner: str, truth: Feed, baselines: Sequence[Feed], value: Feed, precision: str
) -> list[OutputCheck]:
    """One check a kind of tensor, of several levels or stages the worst; the last baseline makes the limit."""
    kinds: dict[str, list[OutputCheck]] = {}
    for name, right in truth.items():
        found = value[name].astype(np.float64).reshape(len(right), -1, *right.shape[2:])[:, : right.shape[1]]
        scale = max(float(np.abs(right).max()), 1e-300)
        errors = [float(np.abs(one[name] - right).max()) / scale for one in baselines]
        finite = bool(np.isfinite(found).all())
        worst = float(np.abs(found - right).max()) if finite else float("inf")
        norm = float(np.linalg.norm(found) * np.linalg.norm(right)) if finite else 0.0
        kind = name.rstrip("0123456789").removesuffix("_stage")
        limit, least = model_limit(errors[-1], precision), least_cosine(precision)
        whole, stored, judged = (_classes_first(name, one) for one in (right, baselines[-1][name], found))
        ranges = gain_ranges([whole], [[stored]], *gain_room(precision))
        gains = [GainCheck(**one) for one in check_gains([whole], [judged], ranges)]
        cosine = float(np.vdot(found, right)) / norm if norm else 0.0
        kinds.setdefault(kind, []).append(
            OutputCheck(
                runner=runner,
                name=kind,
                samples=len(right),
                max_abs=worst,
                max_rel=worst / scale,
                quantiles={},
                cosine=cosine,
                top1_agreement=None,
                torch_float32_max_rel=errors[0],
                stored_max_rel=errors[1] if len(errors) > 1 else None,
                limit=limit,
                min_cosine=least,
                gains=gains,
                evidence=has_evidence([right]),
                passed=worst / scale <= limit and cosine >= least and all(gain.passed for gain in gains),
            )
        )
    return [max(checks, key=lambda c: (not c.passed, c.max_rel / c.limit)) for checks in kinds.values()]


def _classes_first(name: str, values: np.ndarray) -> np.ndarray:
    """What has a gain of its own on axis 1: of (N, RoIs, classes) the classes, each over all RoIs."""
    return values.swapaxes(1, 2) if name.startswith(("cls_score", "bbox_pred")) else values


def check_detections(
    module: Detector,
    reference: Reference,
    outputs: Feed,
    proposals: np.ndarray,
    runner: str,
    stored: Feed | None = None,
) -> DetectionCheck:
    """Detection by detection; of a half type by average precision.

    Args:
        outputs: of the file.
        proposals: (N, R, 4), its own.
        stored: of a half type, what float64 that stores its values in the type answers.
    """
    spec = module.detector
    matches, precisions, shares, lost = [], [], [], []
    for i, wanted in enumerate(reference.detections):
        truth = Found(wanted.boxes.numpy(), wanted.scores.numpy(), wanted.labels.numpy())
        found = read_detections(outputs, i)
        matches.append(match(truth, found, spec.nms_iou, spec.score_thr, spec.max_detections))
        precisions.append(average_precision(truth, found))
        if stored is not None:
            lost.append(precision_lost(average_precision(truth, read_detections(stored, i))))
        own = reference.proposals[i]
        own = own[own[:, 4] > 0][:, :4]
        shares.append(float((overlap(own, proposals[i].astype(np.float64)).max(1) > _SAME_PROPOSAL).mean()))
    precision, least = float(np.mean(precisions)), 1 - float(np.mean(lost)) if lost else None
    strict = all(m.passed for m in matches) and min(shares) >= _PROPOSALS
    return DetectionCheck(
        runner=runner,
        reference=sum(m.wanted for m in matches),
        found=sum(m.found for m in matches),
        matched=sum(m.matched for m in matches),
        excused=sum(m.excused for m in matches),
        box_error=max(m.box_error for m in matches),
        score_error=max(m.score_error for m in matches),
        proposals=min(shares),
        average_precision=precision,
        least_precision=least,
        passed=strict if least is None else precision >= least,
    )
