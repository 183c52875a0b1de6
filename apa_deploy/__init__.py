"""apa-deploy: ship neural networks that use the Adaptive Parametric Activation."""

__version__ = "0.1.0"
