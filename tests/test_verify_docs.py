"""The workflow in docs/ci.md is YAML, and its commands are ours."""

import re
import shlex
from pathlib import Path

import pytest
from apa_exporters.cli import _parser as export_parser

from apa_deploy.cli.verify import _parser as verify_parser

PAGE = "".join((Path(__file__).parents[1] / "docs" / name).read_text() for name in ("verify.md", "ci.md"))
PARSERS = {"apa-verify": verify_parser, "apa-export": export_parser}


def commands():
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])
    return [step["run"] for step in workflow["jobs"]["parity"]["steps"] if "run" in step]


def test_the_workflow_runs_commands_that_exist():
    ours = [shlex.split(command) for command in commands() if command.startswith("apa-")]
    assert len(ours) == 3
    for program, *given in ours:
        PARSERS[program]().parse_args(given)


def test_every_option_that_the_page_names_exists():
    known = {option for make in PARSERS.values() for action in make()._actions for option in action.option_strings}
    named = set(re.findall(r"`(--[a-z-]+)", PAGE)) - {"--junitxml"}
    assert named and named <= known
