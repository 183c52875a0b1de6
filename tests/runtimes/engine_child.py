"""Child process: an engine in a Session, on a machine that stands in for one with a GPU. Prints what happened.

python engine_child.py ENGINE
"""

from __future__ import annotations

import ctypes
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from apa_deploy.errors import ApaError
from apa_deploy.runtimes.session import Session

DRIVER = ctypes.CDLL("libcuda.so.1")
LAMBDA, KAPPA = np.float64(np.float32(0.5)), np.float64(np.float32(1.2))
ENGINE = sys.argv[1]


def fed(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-6, 6, (rows, 4)).astype(np.float32)


def error(session: Session, x: np.ndarray) -> float:
    """Of one run, from the formula in float64."""
    z = x.astype(np.float64)
    wanted = z * (1 + LAMBDA * np.exp(-KAPPA * z)) ** (-1 / LAMBDA)
    return float(np.abs(session.run({"x": x})["y"] - wanted).max())


def graphs(**options: object) -> dict[str, object]:
    """(rows, graph launches so far) of each run, the largest error, and what is left allocated."""
    before, errors, seen = DRIVER.standin_launches(), [], []
    with Session(ENGINE, **options) as session:
        for rows in (4, 4, 4, 2, 2, 32, 32, 4, 32, 4, 32):
            errors.append(error(session, fed(rows, rows)))
            seen.append((rows, DRIVER.standin_launches() - before))
    return {
        "seen": seen,
        "error": max(errors),
        "left": DRIVER.standin_live(),
        "pageable": DRIVER.standin_pageable(),
    }


def several() -> dict[str, object]:
    """Four threads on two contexts."""
    with Session(ENGINE, contexts=2) as session, ThreadPoolExecutor(4) as pool:
        errors = list(pool.map(lambda i: error(session, fed(1 + i % 8, i)), range(40)))
        held = DRIVER.standin_live()
    return {"error": max(errors), "held": held, "left": DRIVER.standin_live()}


def refused() -> dict[str, str]:
    cases = {
        "beyond the profile": np.zeros((33, 4), np.float32),
        "double": np.zeros((1, 4)),
        "rank": np.zeros(4, np.float32),
    }
    said = {}
    with Session(ENGINE) as session:
        for name, x in cases.items():
            try:
                session.run({"x": x})
            except ApaError as problem:
                said[name] = f"{problem.exit_code} {problem}"
        said["after all"] = str(error(session, fed(3)) < 1e-5)
        DRIVER.standin_limit(0)
        try:
            session.run({"x": fed(32)})
        except ApaError as problem:
            said["no memory"] = f"{problem.exit_code} {problem}"
        DRIVER.standin_limit(4096)
        said["after no memory"] = str(error(session, fed(32)) < 1e-5)
    return said


def main() -> None:
    with Session(ENGINE) as session:
        names = [session.input_names, session.output_names]
    found = {"names": names, "graphs": graphs(), "plain": graphs(cuda_graph=False), "several": several()}
    print(json.dumps(found | {"refused": refused()}))


if __name__ == "__main__":
    main()
