"""Is the exported model still right? Gates against the float64 module; see `verify`."""
