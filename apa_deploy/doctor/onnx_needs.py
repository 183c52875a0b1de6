"""An ONNX model: opset, our nodes, other domains, functions, external data; and does ONNX Runtime take it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from ..errors import ApaError
from ..graph.node import DOMAIN, all_nodes, is_activation
from ..graph.read import OnnxFileError, read_graph
from ..records.passport import passport_path
from ..runtimes.ort_session import open_session, session_options
from ..runtimes.providers import CPU, CUDA
from ..runtimes.session import Session
from . import components
from .facts import MachineFacts
from .finding import Finding, FindingState, check_need
from .kind import UnknownFileError
from .known_errors import explain_errors
from .passport_needs import own_passport

_STANDARD = {"", "ai.onnx", "ai.onnx.ml"}
_BUILT_IN = {"com.microsoft"}  # ONNX Runtime's own
_PLUGIN_FIELDS = {"plugin_version", "plugin_namespace"}


def onnx_findings(path: Path, facts: MachineFacts) -> list[Finding]:
    """What the model at `path` needs.

    Raises:
        UnknownFileError: it is no ONNX model, or a damaged one.
    """
    model = _read(path)
    data = list(_external_data(model, path.parent))
    found = [*components.onnxruntime(facts), *_activations(model, facts), *_domains(model), *data]
    if facts.version_of("onnxruntime", "onnxruntime-gpu") and all(f.state is FindingState.OK for f in data):
        found += [*_loads(path, model, facts), *_bodies(path, model)]
    return [*found, own_passport(path)[1]] if passport_path(path).is_file() else found


def _read(path: Path) -> onnx.ModelProto:
    try:
        return read_graph(path)
    except OnnxFileError as error:
        saw = f"no known kind of file, or a damaged one ({error.reason})"
        raise UnknownFileError(path, saw, "Copy it again.") from error


def _activations(model: onnx.ModelProto, facts: MachineFacts) -> list[Finding]:
    nodes = [node for node in all_nodes(model) if is_activation(node)]
    if not nodes:
        return []
    counts = ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(node.op_type for node in nodes).items()))
    bodies = {function.name for function in model.functions if function.domain == DOMAIN}
    bodied = {node.op_type for node in nodes} <= bodies
    library = components.check_fused_operators(facts)
    here = f"{library.here}; {'function bodies in the model' if bodied else 'no function bodies in the model'}"
    stuck = library.state is not FindingState.OK and not bodied
    state, do = (FindingState.MISSING, components.BUILD_ORT) if stuck else (library.state, library.do)
    found = [Finding(f"{DOMAIN} nodes ({counts})", library.wanted, here, state, do)]
    return [*found, *components.operators_on_cuda(facts), *_plugin_fields(nodes)]


def _plugin_fields(nodes: list[onnx.NodeProto]) -> list[Finding]:
    without = [n.name for n in nodes if not {attribute.name for attribute in n.attribute} >= _PLUGIN_FIELDS]
    if not without:
        return []
    wanted = "plugin_version and plugin_namespace, or TensorRT's parser ignores the plugin"
    here = f"{len(without)} nodes without, {without[0]!r} first"
    return [
        Finding("nodes for TensorRT", wanted, here, FindingState.NOTE, "Export again with --format onnx-custom.")
    ]


def _domains(model: onnx.ModelProto) -> list[Finding]:
    opset = next((o.version for o in model.opset_import if o.domain in _STANDARD), 0)
    known = _STANDARD | _BUILT_IN | {DOMAIN} | {function.domain for function in model.functions}
    foreign = sorted({node.domain for node in all_nodes(model)} - known)
    found = [Finding("opset", "any", f"{opset}, IR version {model.ir_version}")]
    do = "Register the library that provides it, or export again without such operators."
    return found + [Finding("domain", d, "neither standard nor ours", FindingState.MISSING, do) for d in foreign]


def _external_data(model: onnx.ModelProto, folder: Path) -> Iterator[Finding]:
    """One finding a file. A location that leaves the folder is not followed."""
    ends: dict[str, int] = {}
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            end = (info.offset or 0) + (info.length or 0)
            ends[info.location] = max(ends.get(info.location, 0), end)
    for location, end in sorted(ends.items()):
        yield _data_file(folder, location, end)


def _data_file(folder: Path, location: str, end: int) -> Finding:
    topic, wanted = "external data", f"{location}, {end} bytes or more, beside the model"
    if PurePath(location).is_absolute() or ".." in PurePath(location).parts:
        return Finding(
            topic, "a file below the model's folder", location, FindingState.MISSING, "Do not trust this model."
        )
    path = folder / location
    size = path.stat().st_size if path.is_file() else None
    here = "not there" if size is None else f"{size} bytes"
    return check_need(topic, wanted, here, size is not None and size >= end, "Copy it beside the model, whole.")


def _bodies(path: Path, model: onnx.ModelProto) -> list[Finding]:
    """Whether the function bodies alone are taken too: a GPU's provider runs them, and some tools break them."""
    if not any(function.domain == DOMAIN for function in model.functions):
        return []
    topic, wanted = "function bodies", "ONNX Runtime takes the model without our library"
    try:
        open_session(path, options=session_options(threads=1))
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no other base in common
        return [Finding(topic, wanted, str(error).splitlines()[0], FindingState.NOTE, _PUT_BACK)]
    return [Finding(topic, wanted, wanted)]


_PUT_BACK = "Put them back: apa_deploy.graph.functions.with_functions(model). Constant folding breaks them."


def _loads(path: Path, model: onnx.ModelProto, facts: MachineFacts) -> Iterator[Finding]:
    """The proof: a session is made and closed on the CPU, and on CUDA where a GPU and its package are here."""
    activations = sum(map(is_activation, model.graph.node))
    wanted = "ONNX Runtime takes the model"
    ways: list[tuple[str, Sequence[str] | None]] = [("", None)]
    if facts.gpus and facts.version_of("onnxruntime-gpu"):
        ways.append((" on CUDA", (CUDA, CPU)))
    for where, providers in ways:
        try:
            with Session(path, threads=1, providers=providers) as session:
                placed = session.find_placement()
        except ApaError as error:
            known = explain_errors(str(error), vague=False)
            do = f"{known[0].cause} {known[0].do}" if known else error.do
            yield Finding(f"loading{where}", wanted, error.saw, FindingState.MISSING, do)
            continue
        yield Finding(f"loading{where}", wanted, wanted)
        if placed and activations:
            state = FindingState.NOTE if placed.others or placed.copies else FindingState.OK
            yield Finding(f"activations{where}", "each in one kernel, and no copies", str(placed), state)
