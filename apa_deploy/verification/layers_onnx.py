"""Pieces of an ONNX file in ONNX Runtime: the graph is cut at the activations, extra outputs show each piece."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from ..graph.emulate import emulate_halves
from ..graph.pieces import MEASURED, cut_pieces
from ..graph.precision import NUMPY_TYPE
from ..graph.read import read_graph
from ..graph.sites import ActivationSite
from ..native import LibraryError, ort_library
from ..network import TRUTH, Network
from ..report.record import ActivationError
from ..runtimes.ort_session import open_session
from ..tensors.signature import Feed
from .layers import AFTER, activation_error, compute_wanted, piece_error, rank_errors, round_feed
from .layers_torch import run_pieces


def measure_onnx_layers(
    path: Path, reference: Network, sites: Sequence[ActivationSite], feed: Feed, precision: str, label: str
) -> list[ActivationError]:
    """What each piece of the file adds, ranked. Half graphs run with every stored value rounded to the type."""
    if not sites:
        return []
    dtype = NUMPY_TYPE[precision]
    wanted = compute_wanted(reference, sites, feed)
    sites = [site for site in sites if site.name in wanted]
    entering = round_feed({s.source: wanted[s.name].entering for s in sites}, dtype)
    leaving = round_feed({s.target: wanted[s.name].leaving for s in sites}, dtype)
    made = _run(path, feed, leaving | entering, precision)
    torchs = run_pieces(reference, sites, wanted, feed, precision)
    errors = []
    for site in sites:
        z, arriving = wanted[site.name].entering, made.get(site.source + MEASURED)
        if arriving is not None:
            usual = torchs.arriving.get(site.name)  # none where the reference is a graph
            errors.append(piece_error(label, site.name, z, arriving, usual, precision))
        leaves = made[site.target + MEASURED]
        errors.append(activation_error(label, site, reference, entering[site.source], leaves, precision))
    right = run_pieces(reference, sites, wanted, feed, TRUTH).outputs
    ends = [(name, value) for name, value in made.items() if not name.endswith(MEASURED)]
    for (name, value), wants, made_by_torch in zip(ends, right, torchs.outputs, strict=False):
        errors.append(piece_error(label, name, wants, value, made_by_torch, precision, AFTER))
    return rank_errors(errors)


def _run(path: Path, feed: Feed, given: Feed, precision: str) -> dict[str, np.ndarray]:
    """`given`: the reference's value for each place where the graph is cut; the file's own inputs are none."""
    model = read_graph(path, weights=True)
    inputs = {value.name: value for value in model.graph.input}
    given = {name: value for name, value in given.items() if name not in inputs}
    model = cut_pieces(model if precision == "fp32" else emulate_halves(model), list(given))
    try:
        library = ort_library()
    except LibraryError:
        library = None
    with tempfile.TemporaryDirectory(prefix="apa-") as folder:  # through a file: protobuf ends at 2 GB
        cut = Path(folder) / "cut.onnx"
        onnx.save_model(model, cut, save_as_external_data=True, location="weights", size_threshold=1024)
        session = open_session(cut, library=library)
    wanted = [value.name for value in session.get_outputs()]
    mine = dict(zip(inputs, feed.values(), strict=True)) if len(inputs) == len(feed) == 1 else feed
    own = {name: _round(array, precision) for name, array in mine.items()}
    return dict(zip(wanted, session.run(wanted, own | given), strict=True))


def _round(array: np.ndarray, precision: str) -> np.ndarray:
    if precision == "fp32" or not np.issubdtype(array.dtype, np.floating):
        return array
    return array.astype(NUMPY_TYPE[precision]).astype(np.float32)
