"""In a bundle, a copy of `apa_deploy/measure/turns.py` lies here instead: it runs where apa_deploy is not."""

from apa_deploy.measure.turns import ratio_interval, take_turns, time_ms

__all__ = ["ratio_interval", "take_turns", "time_ms"]
