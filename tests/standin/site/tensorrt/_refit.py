"""Weights that go back into an engine that was built without them."""

from __future__ import annotations

from typing import Any

import onnx

from ._contract import FAULTS, Checked, ContractError
from ._run import ICudaEngine


class Refitter(Checked):
    def __init__(self, engine: ICudaEngine, logger: Any) -> None:
        if not engine._facts["stripped"]:
            raise ContractError("an engine that was not built to be refitted")
        self._engine, self._refitted = engine, False

    def get_missing_weights(self) -> list[str]:
        """Until all are given."""
        return [] if self._refitted else [one.name for one in self._engine._model.graph.initializer]

    def refit_cuda_engine(self) -> bool:
        """False where weights are missing (IRefitter::refitCudaEngine)."""
        self._engine._ready = self._engine._ready or self._refitted
        return self._refitted


class OnnxParserRefitter(Checked):
    def __init__(self, refitter: Refitter, logger: Any) -> None:
        self._refitter = refitter

    def refit_from_file(self, model_file: str) -> bool:
        """False where the file lacks weights of the engine (IParserRefitter::refitFromFile)."""
        wanted = {(one.name, tuple(one.dims)) for one in self._refitter._engine._model.graph.initializer}
        given = {(one.name, tuple(one.dims)) for one in onnx.load(model_file).graph.initializer}
        self._refitter._refitted = wanted <= given and "lost weights" not in FAULTS
        return self._refitter._refitted
