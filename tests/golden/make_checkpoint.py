#!/usr/bin/env python3
"""Regenerate a golden checkpoint and its input from one golden/*.json file.

Stand-alone: needs numpy and torch only; contains no upstream code.  Nothing is
drawn from a library's random stream, so the bytes are the same on every
platform and numpy version.

FILL RULE  aglu-fill-v1
-----------------------
seed(name)   = first 8 bytes of sha256(utf8(name)), little-endian uint64
raw(name, i) = splitmix64 output number i (i = 0, 1, ...) of that seed:
                 z = seed + (i + 1) * 0x9E3779B97F4A7C15          (mod 2^64)
                 z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9         (mod 2^64)
                 z = (z ^ (z >> 27)) * 0x94D049BB133111EB         (mod 2^64)
                 z =  z ^ (z >> 31)
u(name, i)   = (raw >> 11) * 2^-53                                in [0, 1)
n(name, i)   = (sum of the four 16-bit lanes of raw - 131070) / SIGMA
               SIGMA = sqrt(4 * (2^32 - 1) / 12)                  ~ N(0, 1), |n| < 3.47
Element i is the i-th of the tensor in C order.  Everything is computed in
float64 and rounded once to the stored dtype.  By the LAST name component and
the shape, first match wins:

  num_batches_tracked          1000
  running_var                  0.5 + u
  running_mean                 0.1 * n
  lambda_param                 by byte 8 of sha256(name), modulo 10:
                                 0 -> 0.0   1 -> -0.1   2 -> 1.0
                                 3 -> 5e-5  4 -> 1e-3   5 -> 2.5   6..9 -> u
  kappa_param                  '.uniact.' or '.unact.' in the name (gates): 2u - 1
                               otherwise (activations):                    0.8 + 0.4u
  scale                        4 + 2u          (learnable cosine temperature)
  weight, rank >= 2            n * sqrt(2 / prod(shape[1:]))
  weight, rank 1               0.5 + u         (batch / layer norm)
  bias                         0.1 * n
  anything else                error

Then, if the JSON has "gains" (list of [regex, factor]), the first regex that
re.search()es the name multiplies the float64 value before rounding.

INPUT  aglu-input-v1, for "input.shape" = [N, 3, H, W] with H and W multiples of 8:
  x = 0.5 * n("input:<seed>:fine")   of shape [N, 3, H, W]
    + 1.0 * n("input:<seed>:coarse") of shape [N, 3, H/8, W/8], every value repeated 8 x 8
    + 1.0 * n("input:<seed>:offset") of shape [N, 3, 1, 1]
in float64, then rounded to float32.
"""

import argparse
import hashlib
import json
import re
import sys

import numpy as np

_SIGMA = np.sqrt(4.0 * (2.0**32 - 1.0) / 12.0)
_LAMBDA_CASES = {0: 0.0, 1: -0.1, 2: 1.0, 3: 5e-5, 4: 1e-3, 5: 2.5}


def _raw(name, count):
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64)
        z *= np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(seed)
        z ^= z >> np.uint64(30)
        z *= np.uint64(0xBF58476D1CE4E5B9)
        z ^= z >> np.uint64(27)
        z *= np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return z


def uniform(name, shape):
    n = int(np.prod(shape, dtype=np.int64))
    return ((_raw(name, n) >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)


def normal(name, shape):
    n = int(np.prod(shape, dtype=np.int64))
    z = _raw(name, n)
    m = np.uint64(0xFFFF)
    s = (z & m).astype(np.float64)
    for k in (16, 32, 48):
        s += ((z >> np.uint64(k)) & m).astype(np.float64)
    return ((s - 131070.0) / _SIGMA).reshape(shape)


def fill(name, shape, gains=()):
    """float64 value (int64 for num_batches_tracked) of one state_dict entry."""
    leaf = name.rsplit(".", 1)[-1]
    shape = tuple(shape)
    if leaf == "num_batches_tracked":
        return np.full(shape, 1000, dtype=np.int64)
    if leaf == "running_var":
        v = 0.5 + uniform(name, shape)
    elif leaf == "running_mean":
        v = 0.1 * normal(name, shape)
    elif leaf == "lambda_param":
        case = hashlib.sha256(name.encode()).digest()[8] % 10
        v = np.full(shape, _LAMBDA_CASES[case]) if case in _LAMBDA_CASES else uniform(name, shape)
    elif leaf == "kappa_param":
        gate = ".uniact." in "." + name or ".unact." in "." + name
        v = 2.0 * uniform(name, shape) - 1.0 if gate else 0.8 + 0.4 * uniform(name, shape)
    elif leaf == "scale":
        v = 4.0 + 2.0 * uniform(name, shape)
    elif leaf == "weight" and len(shape) >= 2:
        v = normal(name, shape) * np.sqrt(2.0 / float(np.prod(shape[1:], dtype=np.int64)))
    elif leaf == "weight":
        v = 0.5 + uniform(name, shape)
    elif leaf == "bias":
        v = 0.1 * normal(name, shape)
    else:
        raise KeyError("fill rule aglu-fill-v1 has no case for %r" % name)
    for pattern, factor in gains:
        if re.search(pattern, name):
            v = v * float(factor)
            break
    return v


def input_array(spec):
    tag, (n, c, h, w) = "input:%d:" % spec["input"]["seed"], spec["input"]["shape"]
    coarse = normal(tag + "coarse", (n, c, h // 8, w // 8)).repeat(8, axis=2).repeat(8, axis=3)
    x = 0.5 * normal(tag + "fine", (n, c, h, w)) + coarse + normal(tag + "offset", (n, c, 1, 1))
    return x.astype(np.float32)


def state_dict(spec):
    from collections import OrderedDict

    import torch

    if spec["fill"]["rule"] != "aglu-fill-v1":
        raise ValueError("unknown fill rule")
    out = OrderedDict()
    for name, shape, dtype in spec["state_dict"]:
        v = np.asarray(fill(name, shape, spec["fill"].get("gains", ())))
        out[name] = torch.from_numpy(np.array(v.astype({"float32": np.float32, "int64": np.int64}[dtype])))
    return out


def checkpoint(spec, layout="upstream"):
    from collections import OrderedDict

    import torch

    sd = state_dict(spec)
    if layout == "bare":
        return sd
    if layout == "mmdet":
        return {
            "meta": {"epoch": 1, "iter": 1},
            "state_dict": OrderedDict(("backbone." + k, v) for k, v in sd.items()),
        }
    ck = {
        "model": sd,
        "optimizer": {"state": {}, "param_groups": []},
        "lr_scheduler": {"last_epoch": spec["epoch"]},
        "epoch": spec["epoch"],
        "args": argparse.Namespace(**spec["args"]),
    }
    if layout == "ema":  # trained weights under 'model_ema'; 'model' deliberately different
        ck["model_ema"] = OrderedDict(
            [("n_averaged", torch.tensor(1000, dtype=torch.int64))] + [("module." + k, v) for k, v in sd.items()]
        )
        ck["model"] = OrderedDict((k, v * 0.5 if v.is_floating_point() else v) for k, v in sd.items())
    elif layout == "ddp":  # 'module.' prefix, as when a wrapped model is saved
        ck["model"] = OrderedDict(("module." + k, v) for k, v in sd.items())
    return ck


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("json")
    p.add_argument("-o", "--out", default="model.pth")
    p.add_argument("--input-out", default=None, help="also write the input as .npy")
    p.add_argument("--layout", default="upstream", choices=["upstream", "ema", "ddp", "bare", "mmdet"])
    a = p.parse_args()
    import torch

    spec = json.load(open(a.json))
    torch.save(checkpoint(spec, a.layout), a.out)
    if a.input_out:
        np.save(a.input_out, input_array(spec))
    print("wrote %s: %d entries, layout %s" % (a.out, len(spec["state_dict"]), a.layout))


if __name__ == "__main__":
    sys.exit(main())
