"""Child process: loads a plugin library into a real TensorRT registry and prints what happened, as JSON.

    python trt_registry_child.py MODULE LIBRARY COPY
    python trt_registry_child.py MODULE LIBRARY      opens it, and no more

A child, because a TensorRT library that meets something wrong may end its process.
"""

import ctypes
import importlib
import json
import sys
from pathlib import Path

import numpy as np

NAMES = ("AGLU", "APA", "AGLUCodes", "APACodes")


def mine(registry):
    every = [(c.name, c.plugin_version, c.plugin_namespace) for c in registry.all_creators]
    return sorted(creator for creator in every if creator[0] in NAMES)


def loaded(library):
    return any(line.endswith(library) for line in Path("/proc/self/maps").read_text().splitlines())


def cases(trt):
    """name -> fields; those whose name starts with "good" must make a plugin, the others must not."""
    kinds = trt.PluginFieldType

    def field(name, values, type_name="float32"):
        return trt.PluginField(name, np.array(values, type_name), getattr(kinds, type_name.upper()))

    half, one = field("lambda", [0.5]), field("kappa", [1.0])
    return {
        "good numbers": [half, one],
        "good lambda 0": [field("lambda", [0.0]), one],
        "good float64": [field("lambda", [0.5], "float64"), one],
        "good int32": [field("lambda", [2], "int32"), one],
        "good channels": [field("lambda", [0.5] * 8), one, field("axis", [-1], "int32")],
        "good scale": [half, one, field("scale_out", [0.05])],
        "none": [],
        "no kappa": [half],
        "NaN": [field("lambda", [np.nan]), one],
        "infinite": [half, field("kappa", [np.inf])],
        "negative": [field("lambda", [-1.0]), one],
        "empty": [field("lambda", []), one],
        "unequal lengths": [field("lambda", [1.0, 2.0]), field("kappa", [1.0, 2.0, 3.0])],
        "wrong type": [field("lambda", [65], "int8"), one],
        "scale 0": [half, one, field("scale_out", [0.0])],
        "two scales": [half, one, field("scale_out", [0.1, 0.1])],
        "scale of another type": [half, one, field("scale_out", [1], "int32")],
        "unknown": [half, one, field("beta", [1.0])],
    }


def created(trt, creator, fields, phase):
    collection = trt.PluginFieldCollection(fields)
    return creator.create_plugin("layer", collection, getattr(trt.TensorRTPhase, phase)) is not None


def creators(trt, registry):
    found = {}
    for name in NAMES[:2]:
        creator = registry.get_creator(name, "1", "apa")
        for phase in ("BUILD", "RUNTIME"):
            for case, fields in cases(trt).items():
                one = registry.get_creator(f"{name}Codes", "1", "apa") if "scale" in case else creator
                found[f"{name} {phase} {case}"] = created(trt, one, fields, phase)
    return found


def opened(module, library):
    """What the registry holds behind a mere dlopen."""
    trt = importlib.import_module(module)
    ctypes.CDLL(library)
    print(json.dumps(mine(trt.get_plugin_registry())))


def main(module, library, copy):
    trt = importlib.import_module(module)
    registry = trt.get_plugin_registry()
    seen = {"version": trt.__version__, "before": mine(registry)}
    handle = registry.load_library(library)
    seen["loaded"] = handle is not None
    seen["creators"] = mine(registry)
    seen["loaded twice"] = registry.load_library(library) is not None
    seen["copy loaded"] = registry.load_library(copy) is not None
    seen["creators with copy"] = mine(registry)
    seen["missing loaded"] = registry.load_library("/nonexistent/libapa_trt.so") is not None
    lookups = (("AGLU", "1", "apa"), ("APA", "1", "apa"), ("AGLU", "1", ""), ("AGLU", "2", "apa"))
    seen["found"] = ["/".join(at) for at in lookups if registry.get_creator(*at)]
    seen["created"] = creators(trt, registry)
    registry.deregister_library(handle)
    seen["after"] = mine(registry)
    seen["mapped after"] = loaded(library)
    seen["loaded again"] = registry.load_library(library) is not None
    seen["creators again"] = mine(registry)
    print(json.dumps(seen))


if __name__ == "__main__":
    (main if len(sys.argv) > 3 else opened)(*sys.argv[1:])
