"""apa_deploy.runtimes.providers: the choice, as a table."""

from pathlib import Path

import pytest

from apa_deploy.errors import InputError, MissingError
from apa_deploy.runtimes.providers import CPU, CUDA, TENSORRT, choose_providers

PLUGIN = Path("/lib/libapa_trt.so")
EXTRA = {"trt_extra_plugin_lib_paths": str(PLUGIN)}
GPU_PACKAGE = [TENSORRT, CUDA, CPU]

CASES = [
    # what, wanted, available, plugin, providers, our library
    ("nothing said: the CPU", None, [CPU], None, [(CPU, {})], "cpu"),
    ("nothing said on a GPU package: still the CPU", None, GPU_PACKAGE, PLUGIN, [(CPU, {})], "cpu"),
    ("CUDA: ours for CUDA, no copies", [CUDA, CPU], GPU_PACKAGE, None, [(CUDA, {}), (CPU, {})], "cuda"),
    ("TensorRT with the plugin", [TENSORRT, CPU], GPU_PACKAGE, PLUGIN, [(TENSORRT, EXTRA), (CPU, {})], None),
    ("TensorRT without it", [TENSORRT], GPU_PACKAGE, None, [(TENSORRT, {})], None),
    ("what TensorRT leaves to CUDA",
     [TENSORRT, CUDA], GPU_PACKAGE, PLUGIN, [(TENSORRT, EXTRA), (CUDA, {})], "cuda"),
    ("another maker's GPU: function bodies", ["ROCMExecutionProvider"], ["ROCMExecutionProvider"], None,
     [("ROCMExecutionProvider", {})], None),
    ("the user's own plugin path stays",
     [(TENSORRT, {"trt_extra_plugin_lib_paths": "/mine.so"})], GPU_PACKAGE, PLUGIN,
     [(TENSORRT, {"trt_extra_plugin_lib_paths": "/mine.so"})], None),
    ("options become text",
     [(CUDA, {"device_id": 1})], GPU_PACKAGE, None, [(CUDA, {"device_id": "1"})], "cuda"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "available", "plugin", "providers", "library"),
    [c[1:] for c in CASES],
    ids=[c[0] for c in CASES],
)
def test_choice(wanted, available, plugin, providers, library):
    choice = choose_providers(wanted, available, lambda: plugin)
    assert list(choice.providers) == providers
    assert choice.library == library


def test_names_the_package_of_a_missing_provider():
    with pytest.raises(MissingError, match="pip install onnxruntime-gpu") as caught:
        choose_providers([CUDA, CPU], [CPU])
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("wanted", [[], [CPU, "NoSuchProvider"]])
def test_refuses_what_is_not_available(wanted):
    with pytest.raises(InputError, match=CPU):
        choose_providers(wanted, [CPU])
