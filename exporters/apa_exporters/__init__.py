"""One folder a deployment target; `apa_exporters.cli` is `apa-export`."""

import apa_deploy.cli  # noqa: F401 - first of all: Ctrl-C while the rest is imported is no traceback
