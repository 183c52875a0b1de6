"""What runs on the machine with the GPU: ONNX files and a recipe -> a TensorRT engine, judged, timed, recorded.

Imports nothing of this project, only the standard library, tensorrt, polygraphy, numpy and onnx, and runs on
Python 3.10 as well: a bundle carries this folder, and a local export runs it in a child process.
"""
