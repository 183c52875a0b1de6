"""Somebody's ONNX file, run as it is: the truth that its exports are judged by."""
