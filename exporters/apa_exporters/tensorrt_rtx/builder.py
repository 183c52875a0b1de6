"""Child process: an ONNX file -> a TensorRT for RTX engine. Alone, so that what kills the builder kills no export.

    python -P builder.py JOB.json        JOB: see build_process.Job

Reports by one line of JSON each on standard output: {"pid"}, {"phase", "parent", "steps"}, {"phase", "done"},
{"phase", "finished"}, at last {"result"} or {"error"}. The builder's verbose log goes to the job's log file.
Imports nothing of this project: it runs as a file, whatever the folder.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import tensorrt_rtx as trt

# Entries of the layer log that are no kernel: shapes, and waiting between streams.
_NO_LAUNCH = {"shape_call", "signal", "wait"}
_REPORTS = os.fdopen(os.dup(1), "w", buffering=1)


def main(job: dict[str, Any]) -> int:
    """Build what `job` says; the exit code."""
    _report(pid=os.getpid())
    with Path(job["log"]).open("w", encoding="utf-8", errors="replace") as log:
        logger = Logger(log)
        try:
            _report(result=build_engine(job, logger))
        except BuildError as error:
            _report(error=str(error))
            return 1
    return 0


class BuildError(Exception):
    """The builder said no; the message is its own."""


class Logger(trt.ILogger):
    """Writes everything to the log; keeps errors, and the message that lists the engine's layers."""

    def __init__(self, log: Any) -> None:
        trt.ILogger.__init__(self)
        self._log, self.errors, self.layers = log, list[str](), ""

    def log(self, severity: Any, message: str) -> None:
        self._log.write(f"[{severity.name}] {message}\n")
        self._log.flush()
        if severity <= trt.ILogger.ERROR:
            self.errors.append(message)
        if message.startswith("Layers:"):
            self.layers = message


class Progress(trt.IProgressMonitor):
    """Passes the builder's phases on; several of its threads may call."""

    def __init__(self) -> None:
        trt.IProgressMonitor.__init__(self)

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        _report(phase=phase_name, parent=parent_phase, steps=num_steps)

    def step_complete(self, phase_name: str, step: int) -> bool:
        _report(phase=phase_name, done=step)
        return True

    def phase_finish(self, phase_name: str) -> None:
        _report(phase=phase_name, finished=True)


def build_engine(job: dict[str, Any], logger: Logger) -> dict[str, Any]:
    """Parse, configure, build and write the engine."""
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(job["model"]):
        raise BuildError("; ".join(parser.get_error(i).desc() for i in range(parser.num_errors)))
    progress = Progress()
    config = _configure(builder, network, job)
    config.progress_monitor = progress
    start = time.perf_counter()
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BuildError("; ".join(logger.errors) or "the builder returned no engine and no reason")
    Path(job["engine"]).write_bytes(engine)
    return {
        "seconds": time.perf_counter() - start,
        "peak_memory_bytes": peak_memory_bytes(),
        "bytes": engine.nbytes,
        "launches": launches(logger.layers),
        "builder": trt.__version__,
    }


def _configure(builder: Any, network: Any, job: dict[str, Any]) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # lists the layers, in the log and the engine
    if not job["tf32"]:
        config.clear_flag(trt.BuilderFlag.TF32)
    if job["strip_weights"]:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
    if job["capabilities"]:
        config.num_compute_capabilities = len(job["capabilities"])
        for i, name in enumerate(job["capabilities"]):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), i)
    sources = [network.get_input(i) for i in range(network.num_inputs)]
    if any(-1 in source.shape for source in sources):
        config.add_optimization_profile(_profile(builder, sources, job))
    return config


def _profile(builder: Any, sources: list[Any], job: dict[str, Any]) -> Any:
    profile = builder.create_optimization_profile()
    for source in sources:
        if -1 in source.shape:
            sample = job["other_shapes"].get(source.name, job["sample_shape"])
            batches = job["batches"] if source.shape[0] == -1 else [source.shape[0]] * 3
            profile.set_shape(source.name, *((batch, *sample) for batch in batches))
    return profile


def launches(layers: str) -> dict[str, int]:
    """How many layers of each type the log lists, without those that launch no kernel."""
    counts: dict[str, int] = {}
    for kind in re.findall(r"^Name: .*?, LayerType: (\w+)", layers, flags=re.MULTILINE):
        if kind not in _NO_LAUNCH:
            counts[kind] = counts.get(kind, 0) + 1
    return counts


def peak_memory_bytes() -> int:
    """Of this process alone: what getrusage says counts the parent from before exec as well."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return int(found[1]) * 1024 if found else 0


def _report(**fields: Any) -> None:
    _REPORTS.write(json.dumps(fields) + "\n")


if __name__ == "__main__":
    os.dup2(2, 1)  # whatever a library prints is no report
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
