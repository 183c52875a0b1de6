"""TensorRT engines, and the bundles that build them elsewhere."""
