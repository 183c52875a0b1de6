"""A target without torch: a bundle wants tensorrt, polygraphy, numpy and onnx alone."""

raise ImportError("torch is not installed here")
