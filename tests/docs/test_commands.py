"""Every command of ours that a page shows, the parser takes; every block of Python compiles."""

import re
import shlex
from pathlib import Path

import pytest

from tests.docs.test_links import PAGES, ROOT
from tools.docs.reference import VERBS, parser_of

COMMAND = re.compile(rf"^(?:    |\$ |- run: )?((?:{'|'.join(VERBS)}) .*)$", re.MULTILINE)
BLOCK = re.compile(r"^```python.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands_of(page: Path) -> list[str]:
    code = "\n".join(
        [
            *re.findall(r"^    .*", page.read_text(), re.MULTILINE),
            *re.findall(r"^```(?:console|bash).*?\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL),
        ]
    )
    return COMMAND.findall(code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_ours(page):
    for command in commands_of(page):
        verb, *arguments = shlex.split(command, comments=True)
        arguments = [one for i, one in enumerate(arguments) if one != "..." or arguments[i - 1] == "--error"]
        for end in ("&&", ";", "|", "&", ">"):
            if end in arguments:
                arguments = arguments[: arguments.index(end)]
        if "-h" in arguments or "--version" in arguments or any(one.startswith("[") for one in arguments):
            continue
        try:
            parser_of(verb).parse_args(arguments)
        except SystemExit as refused:
            pytest.fail(f"{command}: exit {refused.code}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_compiles(page):
    for block in BLOCK.findall(page.read_text()):
        compile(block, str(page), "exec")


def test_commands_are_seen():
    assert sum(len(commands_of(page)) for page in PAGES) > 30
