"""Whole detectors: read, rebuilt in torch, written as a graph, judged, and what stands around them in NumPy."""
