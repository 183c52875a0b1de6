"""Stand-ins for what no machine without a GPU has: TensorRT's Python package, and the CUDA driver and runtime."""
