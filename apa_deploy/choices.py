"""The names that options may take. Plain tuples: a parser is made without torch, onnx or onnxruntime."""

WEIGHTS = ("model", "ema")  # of a checkpoint
NORMS = ("linear", "cosine", "lr_cosine", "norm", "inv")  # upstream's classifiers
FLOORS = ("relu+1e-8", "clamp 1e-4", "none")  # how a raw lambda is kept positive
DETECTORS = ("end2end", "raw", "backbone")  # how much of a whole detector
PREPROCESSINGS = ("imagenet", "cifar", "mmdet")
LAYOUTS = ("nhwc", "nchw")
CHANNELS = ("rgb", "bgr")
IIF_VARIANTS = ("raw", "smooth", "rel", "normit", "gombit", "base2", "base10")
PLAIN_UNITS = ("relu", "silu")  # that a twin has in place of learned ones
PRECISIONS = ("fp32", "fp16", "bf16")  # of a graph
INT8, FP8 = "int8", "fp8"  # explicit Q/DQ, calibrated; fp8 for TensorRT alone
CALIBRATIONS = ("minmax", "mse")  # how a range follows from what calibration saw
DECOMPOSITIONS = ("anl", "softplus")  # of an ordinary activation
