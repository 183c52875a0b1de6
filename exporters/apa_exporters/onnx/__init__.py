"""ONNX files, decomposed or with com.apa nodes."""
