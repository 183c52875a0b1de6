"""Which runners this machine has: `--runner all`."""

from __future__ import annotations

from importlib.util import find_spec

from ..runtimes.cuda_driver import device_count
from ..runtimes.providers import SESSIONS

_MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


def available_runners() -> list[str]:
    """ONNX Runtime, and what else is installed and has the device that it needs."""
    found = ["onnxruntime"]
    if find_spec("openvino"):
        found.append("openvino")
    if not device_count():
        return found
    import onnxruntime

    offered = onnxruntime.get_available_providers()
    found += [runner for runner, providers in SESSIONS.items() if providers and providers[0] in offered]
    return found + [runner for runner, module in _MODULES.items() if find_spec(module)]
