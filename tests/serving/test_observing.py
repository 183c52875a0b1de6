"""What operators see: log lines with request ids, metrics, the command's help."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import tritonclient.grpc

ROWS = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]


def test_a_request_is_logged_under_its_id(server):
    status, headers, document = server.infer(ROWS, id="from-the-body")
    assert (status, headers["x-request-id"], document["id"]) == (200, "from-the-body", "from-the-body")
    event = server.wait_for("request", request_id="from-the-body")
    assert event["level"] == "info"
    assert event["status"] == 200
    assert event["path"] == "/v2/models/act/infer"
    assert event["ms"] > 0


def test_a_header_names_the_id_first(server):
    server.ask("/v2", headers={"X-Request-Id": "from-the-header"})
    assert server.wait_for("request", request_id="from-the-header")["status"] == 200


@pytest.mark.parametrize("given", ["two words", "x" * 200, "tab\there"])
def test_an_unsafe_id_is_replaced(server, given):
    _, headers, _ = server.ask("/v2", headers={"X-Request-Id": given})
    assert headers["x-request-id"] != given
    assert server.wait_for("request", request_id=headers["x-request-id"])


def test_refusals_are_logged_too(server):
    server.ask("/v2/models/none", headers={"X-Request-Id": "refused"})
    assert server.wait_for("request", request_id="refused")["status"] == 404


def test_every_line_is_json(server):
    lines = [line for line in server.text().split("\n")[:-1] if not line.startswith("apa-deploy: ")]
    assert len(lines) == len(server.events())


def test_metrics_count_what_was_asked(server):
    names = ("apa_requests_total", "apa_model_requests_total", "apa_inferences_total", "apa_executions_total")
    before = [server.metric(name) for name in names]
    for _ in range(5):
        server.infer(ROWS)
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        assert client.is_model_ready("act")
    server.infer([[1.0]])
    after = [server.metric(name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [7, 6, 10, 5]
    assert server.metric("apa_ready") == 1
    assert (
        server.metric("apa_queue_requests")
        == server.metric("apa_executing")
        == server.metric("apa_pending_bytes")
        == 0
    )
    assert server.metric("process_resident_memory_bytes") > 0


def test_metrics_have_one_address(server):
    server.metric("apa_ready")
    addresses = [("/metrics", "200"), ("/", "404")]
    for path, wanted in addresses:
        command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{server.metrics}{path}"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == wanted


def test_installed_as_a_program():
    program = Path(sys.executable).with_name("apa-serve")
    command = [program] if program.exists() else [sys.executable, "-m", "apa_deploy.cli.serve"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("apa-serve ")


def test_metrics_answer_head(server):
    """As load balancers ask whether anybody is there."""
    request = urllib.request.Request(f"http://{server.metrics}/metrics", method="HEAD")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert (answer.status, answer.read()) == (200, b"")
        assert int(answer.headers["content-length"]) > 1000


def test_a_sequence_is_not_implemented(server):
    assert server.infer([[1.0, 2.0, 3.0, 4.0]], parameters={"sequence_id": 1})[0] == 501
