"""Images, compose file, dashboard and manifests, as far as they can be judged without running them.

docker/build-and-test runs the CPU image; hadolint and kubernetes-validate run in tools/check.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

from serving_models import small_model
from serving_process import ServerProcess
from watched import DOCKER, MANIFESTS, watched

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())


def _of_kind(kind):
    return [one for one in MANIFESTS if one["kind"] == kind]


def test_the_server_has_every_metric_that_is_watched(tmp_path):
    small_model(tmp_path / "act.onnx")
    wanted = watched("apa") | watched("process")
    assert len(wanted) > 8
    with ServerProcess(tmp_path) as server:
        assert server.infer([[0.0, 1.0, 2.0, 3.0]])[0] == 200
        for name in wanted:
            server.metric(name)


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cpu"])
def test_what_an_image_copies_is_there_and_sent(name):
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (?:--chmod=\d+ )?([^-\s]\S*) ", (DOCKER / name).read_text(), re.MULTILINE)
    assert copied
    for source in copied:
        assert (ROOT / source).exists()
        assert source == "." or any(Path(source).is_relative_to(one) or Path(source).match(one) for one in sent)


def test_compose_serves_loopback_alone():
    ports = [port for service in COMPOSE["services"].values() for port in service["ports"]]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_mounts_and_secrets_are_there():
    mounts = [m.split(":")[0] for service in COMPOSE["services"].values() for m in service.get("volumes", [])]
    for path in (mount for mount in mounts if mount.startswith("./")):
        assert (DOCKER / path).exists(), path
    for service in COMPOSE["services"].values():
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert service["cap_drop"] == ["ALL"]
    assert "docker/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_image_for_gpus_is_built_with_what_its_server_asks_for():
    service = COMPOSE["services"]["apa-serve-gpu"]
    text = (ROOT / service["build"]["dockerfile"]).read_text()
    arguments = service["build"]["args"]
    for name in arguments:
        assert f"ARG {name}=" in text and f"${{{name}}}" in text
    assert "onnxruntime_cuda" in arguments["PARTS"].split(";")
    assert "onnxruntime" not in (DOCKER / "requirements.txt").read_text().split()  # the two overwrite each other
    assert arguments["ONNXRUNTIME"].startswith("onnxruntime-gpu")
    asked = [word.partition("=")[2] for word in service["command"] if word.startswith("--provider=")]
    assert asked == ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_prometheus_scrapes_what_compose_runs():
    scraped = yaml.safe_load((DOCKER / "prometheus.yaml").read_text())["scrape_configs"]
    targets = [target for job in scraped for config in job["static_configs"] for target in config["targets"]]
    assert {target.split(":")[0] for target in targets} == {"apa-serve", "apa-serve-gpu", "triton"}


@pytest.mark.parametrize("name", ["apa-serve", "apa-triton"])
def test_manifests_belong_together(name):
    workload, service, budget, scaler = (
        next(one for one in _of_kind(kind) if one["metadata"]["name"] == name)
        for kind in ("Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler")
    )
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert workload["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"] == labels
    assert scaler["spec"]["scaleTargetRef"]["name"] == name
    container = workload["spec"]["template"]["spec"]["containers"][0]
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    assert not container["securityContext"]["allowPrivilegeEscalation"]


def test_a_pod_has_time_to_drain():
    spec = next(one for one in _of_kind("Deployment") if one["metadata"]["name"] == "apa-serve")["spec"]
    arguments = list(map(str, spec["template"]["spec"]["containers"][0]["args"]))
    delay, limit = (float(arguments[arguments.index(f"--drain-{name}") + 1]) for name in ("delay", "timeout"))
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= delay + limit


def test_the_image_s_check_says_what_it_wants_where_mounts_are_refused(tmp_path):
    """As root with apt, in a container that may not mount: before anything is installed."""
    scripts = {"docker": "exit 1", "mount": "exit 32", "id": "echo 0", "apt-get": f"touch {tmp_path}/installed"}
    for name, body in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    done = subprocess.run([DOCKER / "build-and-test"], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 3
    assert "the right to mount" in done.stderr and "Start docker" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == set(scripts)  # nothing installed, nothing left behind
