"""Makes repositories for tests through the command, and what stands for an engine where none can be built."""

from __future__ import annotations

from pathlib import Path

from apa_exporters.cli import main
from serving_models import small_model, write_passport

from apa_deploy.native import trt_plugin_library
from apa_deploy.records.passport import EngineBuild, file_record

STAND_IN = Path(__file__).with_name("standin_backend.py")
BATCHES = (1, 4, 8)


def exported(source: Path, out: Path, *options: object) -> Path:
    """`apa-export SOURCE --format triton -o OUT OPTIONS`, which must succeed."""
    assert main([str(source), "--format", "triton", "-o", str(out), *map(str, options)]) == 0
    return out


def engine(folder: Path, kept: str = "plugin", **changes) -> Path:
    """What stands for an engine where none can be built: ONNX behind an engine's tag, with its passport.

    The stand-in backend runs it; everything that is made from it is what a real engine gets.
    """
    path = folder / "net.engine"
    path.write_bytes(b"ftrt" + small_model(folder / "act.onnx").read_bytes())  # files are known by their content
    (folder / "act.onnx").unlink()
    tensors = [{"name": name, "datatype": "FP32", "shape": [-1, 4]} for name in ("x", "y", "g")]
    build = EngineBuild(
        builder="tensorrt",
        model=file_record(path),
        capabilities=[],
        batches=BATCHES,
        seconds=1,
        peak_memory_bytes=1,
        launches={},
        executed=False,
        note="",
        activation=kept,
        plugin=file_record(trt_plugin_library()) if kept == "plugin" else None,
    )
    fields = {"format": "trt", "build": build, "input_tensors": tensors[:1], "output_tensors": tensors[1:]}
    write_passport(path, **(fields | changes))
    return path
