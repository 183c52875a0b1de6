"""Let a Python, and every child that it starts, find none of the packages that the extras bring."""

import sys

from apa_deploy.require import PACKAGES

LACKING = PACKAGES.keys() - {"onnxruntime"}


class Plain:
    """Finds what `finder` finds, but for LACKING."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in LACKING else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = [Plain(finder) for finder in sys.meta_path]
