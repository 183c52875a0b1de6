"""apa_exporters.tensorrt: the lines for `trtexec`."""

import shlex
from pathlib import Path

import pytest
from apa_exporters.tensorrt.bundle import trtexec_lines
from apa_exporters.tensorrt.on_target.recipe import read_recipe
from apa_exporters.tensorrt.trtexec import load_line

from apa_deploy.native import trt_plugin_library
from apa_deploy.records.passport import EngineBuild, file_record, read_passport
from apa_deploy.runtimes.cuda_driver import device_count
from tests.exporters.trt_bundles import EVERYTHING, changed

pytestmark = pytest.mark.skipif(device_count() > 0, reason="a real GPU would answer in the stand-in's place")


def test_trtexec_lines(bundle):
    plain, plugin, why, why_not = trtexec_lines(read_recipe(bundle))
    assert "--onnx=model.onnx" in plain
    assert "--dynamicPlugins" not in plain
    assert "--minShapes=input:1x3x16x16 --optShapes=input:2x3x16x16 --maxShapes=input:4x3x16x16" in plugin
    assert "--dynamicPlugins=plugin/libapa_trt.so" in plugin
    assert "--staticPlugins would only open" in why
    assert "cannot build activation aot" in why_not
    assert plain in (bundle / "README.md").read_text()


def test_trtexec_line_of_a_model_of_fixed_sizes_has_no_shapes(bundle, tmp_path):
    """trtexec refuses shapes for an input whose sizes the model fixes."""
    assert read_recipe(bundle).open_inputs == ["input"]
    recipe = read_recipe(changed(bundle, tmp_path / "b", open_inputs=[]))
    assert not any("Shapes=" in line for line in trtexec_lines(recipe))


def test_a_name_with_a_colon_is_quoted_for_trtexec_and_for_the_shell(bundle, tmp_path):
    shapes = {"images:0": [[1, 3, 16, 16]] * 3, "plain": [[1], [2], [4]]}
    recipe = read_recipe(changed(bundle, tmp_path / "b", shapes=shapes, open_inputs=[*shapes]))
    given = shlex.split(trtexec_lines(recipe)[0])
    assert (
        "--minShapes='images:0':1x3x16x16,plain:1" in given and "--maxShapes='images:0':1x3x16x16,plain:4" in given
    )


def test_trtexec_line_with_every_option(bundle, tmp_path):
    recipe = read_recipe(changed(bundle, tmp_path / "b", **EVERYTHING))
    line = trtexec_lines(recipe)[1]
    for option in (
        "--stronglyTyped", "--noTF32", f"--memPoolSize=workspace:{1 << 30}B", "--builderOptimizationLevel=5",
        "--versionCompatible", "--hardwareCompatibilityLevel=ampere+", "--stripWeights",
        "--setPluginsToSerialize=plugin/libapa_trt.so",
    ):  # fmt: skip
        assert option in line


def test_only_the_line_of_an_engine_with_the_plugin_inside_makes_it_version_compatible(bundle, tmp_path):
    """TensorRT puts plugins into version-compatible engines alone."""
    plain, plugin, *_ = trtexec_lines(read_recipe(changed(bundle, tmp_path / "b", embed_plugin=True)))
    assert "--versionCompatible" in plugin and "--setPluginsToSerialize=" in plugin
    assert "--versionCompatible" not in plain and "--setPluginsToSerialize=" not in plain


@pytest.mark.parametrize(("plugin", "embedded"), [(True, False), (True, True), (False, False)])
def test_trtexec_line_to_run_an_engine(plugin, embedded, bundle):
    passport = read_passport(bundle / "passport.json")
    made = {"activation": "plugin", "plugin": file_record(bundle / "plugin/libapa_trt.so") if plugin else None}
    passport.build = EngineBuild.model_construct(**made)
    passport.options["embed_plugin"] = embedded
    line = load_line(Path("my model.engine"), passport)
    assert line.startswith("trtexec '--loadEngine=my model.engine'")
    assert (f"--dynamicPlugins={trt_plugin_library()}" in line) == (plugin and not embedded)
    assert ("--versionCompatible" in line) == (plugin and embedded)  # where decomposed was kept, nothing is inside
