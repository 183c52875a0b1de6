"""In a bundle, copies of `rows.py` and `matching.py` of `apa_deploy/detection/` lie here instead."""

from apa_deploy.detection.rows import Rows, align_rows, match_columns, mean_precision

__all__ = ["Rows", "align_rows", "match_columns", "mean_precision"]
