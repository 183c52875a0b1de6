"""How latency is measured: turns, statistics, verdicts."""
