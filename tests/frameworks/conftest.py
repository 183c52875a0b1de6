"""Tests with Ultralytics, timm and transformers, for `make frameworks` alone: they need environment.py's packages."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("ultralytics") else ["test_*.py"]
