"""Makes the helpers here importable: tests are imported by file, not as a package."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from chromium import Chromium, installed
from report_example import report

from apa_deploy.report import write_report


@pytest.fixture(scope="session")
def page(tmp_path_factory):
    """The example as HTML."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(report(), path)
    return path


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if not installed():
        pytest.skip("no Chromium: apt-get install chromium")
    with Chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser
