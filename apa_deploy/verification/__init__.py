"""Is a candidate the same network as its reference? Anything against anything; see `run.verified`."""
