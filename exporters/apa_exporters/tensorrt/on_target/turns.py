"""In a bundle, a copy of `apa_deploy/measure/turns.py` lies here instead: it runs where apa_deploy is not."""

from apa_deploy.measure.turns import compare_launches, take_turns, time_ms

__all__ = ["compare_launches", "take_turns", "time_ms"]
