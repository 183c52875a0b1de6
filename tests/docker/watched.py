"""What the dashboard and the autoscalers read from the servers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

DOCKER = Path(__file__).parents[2] / "docker"
MANIFESTS = [
    document
    for path in sorted((DOCKER / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]


def watched(prefix: str) -> set[str]:
    """Names of metrics that begin with `prefix` and are read somewhere."""
    dashboard = json.loads((DOCKER / "grafana" / "dashboards" / "apa-deploy.json").read_text())
    texts = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    scalers = [one for one in MANIFESTS if one["kind"] == "HorizontalPodAutoscaler"]
    texts += [metric["pods"]["metric"]["name"] for one in scalers for metric in one["spec"]["metrics"]]
    return set(re.findall(rf"\b{prefix}_\w+", " ".join(texts)))
