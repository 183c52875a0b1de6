"""TensorRT for RTX engines, built without a GPU."""
