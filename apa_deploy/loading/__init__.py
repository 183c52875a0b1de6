"""How a file becomes a network: checkpoints, pickled modules, ONNX files, exported programs."""
