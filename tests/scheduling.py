"""How the tests are shared among the workers of pytest-xdist: by files, the longest first.

What a file compiles or exports once serves all its tests, so one worker has the whole file. The marks of
`--dist loadgroup` would say the same, but pytest 9.2 does not show them to pytest-xdist 3.8.
"""

from __future__ import annotations

import os

from xdist.scheduler import LoadScopeScheduling

# What their conftest.py makes for the session takes long: one worker has the folder.
TOGETHER = ("tests/exporters/triton/", "tests/report/", "tests/verification/")


def unit_of(nodeid: str) -> str:
    """The name of what one worker has whole."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if file.startswith(folder)), file)


class ByFiles(LoadScopeScheduling):
    """In the order in which `sort_items` has put them."""

    def __init__(self, config, log) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def sort_items(items: list) -> None:
    """In a worker: the units with most tests marked `slow` first, so that none is left for the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow: dict[str, int] = {}
        for item in items:
            unit = unit_of(item.nodeid)
            slow[unit] = slow.get(unit, 0) + bool(item.get_closest_marker("slow"))
        items.sort(key=lambda item: -slow[unit_of(item.nodeid)])
