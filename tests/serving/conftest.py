"""Makes the helpers here importable: tests are imported by file, not as a package."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from serving_models import small_model
from serving_process import ServerProcess

MAX_REQUEST_MIB = 1


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of the small model `act`, shared by a file's tests, which leave it as it was."""
    folder = tmp_path_factory.mktemp("models")
    small_model(folder / "act.onnx")
    with ServerProcess(folder, "--max-batch", "8", "--max-request-mib", MAX_REQUEST_MIB) as process:
        yield process


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A key and a certificate for localhost, made here."""
    folder = tmp_path_factory.mktemp("tls")
    key, pem = folder / "key.pem", folder / "cert.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *kind, "-keyout", key, "-out", pem, *names]
    subprocess.run(command, check=True, capture_output=True)
    return key, pem
