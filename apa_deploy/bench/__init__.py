"""How long does it take? Artifacts measured side by side; see `bench.run`."""
