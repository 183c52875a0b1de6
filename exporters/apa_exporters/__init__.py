"""One file a deployment target; `apa_exporters.cli` is `apa-export`."""
