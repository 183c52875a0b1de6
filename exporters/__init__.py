"""One file a deployment target; `exporters.cli` is `apa-export`."""
