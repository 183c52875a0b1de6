"""Keep activations and attention blocks in ONNX Runtime's blocked layout (NCHWc).

    canonical model -> `placeholders` -> ONNX Runtime's own optimiser -> `swap` -> prepared model

ONNX Runtime converts a convolutional network to NCHWc as it loads it, and leaves that layout around every
operator that it does not know. So each of ours is replaced by QuickGelu, an operator that it keeps in the
layout, numbered by its alpha; the optimised model is saved, and each QuickGelu becomes ours again. The result
belongs to one version of ONNX Runtime and one block size, and is loaded with optimisation off.
"""
