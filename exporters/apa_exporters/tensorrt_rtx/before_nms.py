"""What TensorRT for RTX builds of a detector: backbone, FPN, RPN, and the boxes that its NMS would take."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from apa_deploy.detection.gate import cut_at
from apa_deploy.detection.spec import PRE_NMS_OUTPUTS
from apa_deploy.runtimes.ort_session import save_model

# Seen in 1.7.1, whatever the compute capability: NonMaxSuppression "has no runners that implement it"; RoiAlign
# without a GPU: "Cuda Error in ROIAlignV3: 35". TopK, GatherND and the rest are built.
WHY = (
    "TensorRT for RTX has no NonMaxSuppression, and its parser makes a plugin of RoiAlign that asks for a CUDA "
    "device: the engine holds backbone, FPN and RPN, and gives each level's decoded boxes and scores before NMS "
    f"and the feature maps ({', '.join(PRE_NMS_OUTPUTS)}); --format trt builds the whole detector"
)


def cut_before_nms(path: Path) -> tuple[str, ...]:
    """Replace the detector at `path` by its part before the first NMS; its outputs; () where it is none of ours."""
    model = onnx.load(path)
    made = {output for node in model.graph.node for output in node.output}
    if not made.issuperset(PRE_NMS_OUTPUTS):
        return ()
    part = cut_at(model, {}, PRE_NMS_OUTPUTS)
    del part.graph.output[:]
    for name in PRE_NMS_OUTPUTS:
        dims: dict[str, list[str | int | None]] = {
            "rpn_boxes": ["batch", "places", 4],
            "rpn_scores": ["batch", "levels", "best"],
        }
        maps: list[str | int | None] = ["batch", "channels", f"height_{name}", f"width_{name}"]
        part.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims.get(name, maps)))
    save_model(part, path)
    return PRE_NMS_OUTPUTS
