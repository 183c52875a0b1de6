"""Triton model repositories around any artifact."""
