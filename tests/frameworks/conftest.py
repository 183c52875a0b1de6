"""Tests with Ultralytics, timm and transformers, for `make frameworks`: environment.py has their packages."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("ultralytics") else ["test_*.py"]
