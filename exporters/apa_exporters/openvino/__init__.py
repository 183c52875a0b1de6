"""OpenVINO IR, made of decomposed ONNX and judged in OpenVINO itself."""
