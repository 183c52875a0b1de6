#!/usr/bin/env python3
"""Ask a running server for one inference and judge it: ./smoke-test [HOST:PORT]

Exit codes: 0 the answer is right; 1 it is wrong; 3 the server does not answer. Python's own library alone.
"""

import json
import math
import struct
import sys
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
CODES = {"FP16": "e", "FP32": "f", "FP64": "d", "INT32": "i", "INT64": "q", "UINT8": "B", "INT8": "b"}
SECONDS = 60


def main() -> int:
    host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8000"
    test = json.loads((HERE / "smoke-test.json").read_text())
    try:
        found = answer(host, test)
    except urllib.error.HTTPError as error:
        return say(f"error: {host} answers {error.code}: {error.read().decode(errors='replace')[:500]}", 1)
    except (OSError, ValueError) as error:
        return say(f"error: {host}: {error}; wanted a server that is ready. Start one: ./start", 3)
    faults = [fault for output in test["outputs"] for fault in faults_of(output, found)]
    for fault in faults:
        say(f"error: {fault}", 1)
    return say(f"{test['model']}: {'wrong' if faults else test['judged']}", 1 if faults else 0)


def answer(host: str, test: dict) -> dict:
    """Outputs by name: (shape, values)."""
    bodies = [(HERE / tensor["file"]).read_bytes() for tensor in test["inputs"]]
    inputs = [
        {k: tensor[k] for k in ("name", "datatype", "shape")} | {"parameters": {"binary_data_size": len(body)}}
        for tensor, body in zip(test["inputs"], bodies, strict=True)
    ]
    asked = [{"name": output["name"], "parameters": {"binary_data": True}} for output in test["outputs"]]
    head = json.dumps({"inputs": inputs, "outputs": asked}).encode()
    url = f"http://{host}/v2/models/{test['model']}/infer"
    headers = {"Inference-Header-Content-Length": str(len(head))}
    with urllib.request.urlopen(
        urllib.request.Request(url, head + b"".join(bodies), headers), timeout=SECONDS
    ) as got:
        body, length = got.read(), int(got.headers["Inference-Header-Content-Length"])
    found, offset = {}, length
    for output in json.loads(body[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]] = (output["shape"], values(output["datatype"], body[offset : offset + size]))
        offset += size
    return found


def values(datatype: str, raw: bytes) -> tuple:
    return struct.unpack(f"<{len(raw) // struct.calcsize(CODES[datatype])}{CODES[datatype]}", raw)


def faults_of(output: dict, found: dict) -> list:
    name = output["name"]
    if name not in found:
        return [f"no output {name}"]
    shape, got = found[name]
    if len(shape) != len(output["shape"]) or any(
        w not in (-1, g) for w, g in zip(output["shape"], shape, strict=True)
    ):
        return [f"{name} has shape {shape}; wanted {output['shape']}"]
    if not all(math.isfinite(value) for value in got):
        return [f"{name} is not finite"]
    if output["file"] is None:
        return []
    wanted = values(output["datatype"], (HERE / output["file"]).read_bytes())
    worst = max((abs(g - w) for g, w in zip(got, wanted, strict=True)), default=0.0)
    largest = max(map(abs, wanted), default=0.0)
    limit = output["tolerance"] * max(largest, 1e-6)
    return [f"{name} is {worst:.3g} off; wanted at most {limit:.3g}"] if worst > limit else []


def say(text: str, code: int) -> int:
    # names are data: no escape sequence of theirs reaches the terminal
    shown = text if text.isprintable() else text.encode("unicode_escape").decode()
    print(shown, file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
