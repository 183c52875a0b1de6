"""Fold every APA and AGLU of an ONNX graph into one canonical node, whichever operators express it.

    Mul(kappa), Sub(ln lambda), Softplus(beta=-1), Mul(1/lambda), Exp, Mul(z)   ->   com.apa::AGLU

There is no list of patterns. Each elementwise piece between two values is run in float64 on a grid, and lambda
and kappa are found from its curve. The piece is folded on three conditions: the curve is that of lambda and kappa
everywhere (`prove`), it is no other function's curve (`ambiguity`), and no other node reads its inner values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import onnx
from onnx import helper

from ..node import DOMAIN, VERSION, activations, subgraphs
from ..values import infer_types
from .found import Fold, Recognition, Refusal
from .rewrite import drop_initializers, find_used_values, rewritten
from .scope import Scope
from .search import Search, name_of

__all__ = ["Fold", "Recognition", "Refusal", "recognise"]


def recognise(model: onnx.ModelProto) -> Recognition:
    """Fold the activations of `model`, in place; the bodies of If, Loop and Scan are entered.

    Local functions are not: inline them first (`apa_deploy.loading.onnx_file.load_onnx` does).
    """
    scopes = list(_scopes(model.graph, infer_types(model)))
    kept = sum(1 for scope in scopes for _ in activations(scope.graph))
    searches = _search_scopes(scopes, in_company=kept > 0)
    if not kept and any(search.found for search in searches):
        searches = _search_scopes(scopes, in_company=True)
    names = _name_kept([node for scope in scopes for node in activations(scope.graph)])
    found = [list(_uniquely_named(search.found, names)) for search in searches]
    used = find_used_values(model.graph)
    for scope, folds in reversed(list(zip(scopes, found, strict=True))):  # inner graphs first
        rewritten(scope.graph, folds)
        _declare_types(scope, folds)
    drop_initializers(model.graph, used)
    _declare_domain(model, any(found))
    refused = (refusal for search in searches for refusal in search.refused)
    return Recognition(tuple(fold for folds in found for fold in folds), tuple(refused), kept)


def _scopes(graph: onnx.GraphProto, types: onnx.GraphProto, outer: Scope | None = None) -> Iterator[Scope]:
    """A graph and all below it, outer ones first."""
    scope = Scope(graph, types, outer)
    yield scope
    for node, typed in zip(graph.node, types.node, strict=True):
        for inner, inner_types in zip(subgraphs(node), subgraphs(typed), strict=True):
            yield from _scopes(inner, inner_types, scope)


def _search_scopes(scopes: Sequence[Scope], *, in_company: bool) -> list[Search]:
    searches = [Search(scope, in_company=in_company) for scope in scopes]
    for search in searches:
        search.run()
    return searches


def _name_kept(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """Name canonical nodes after their modules, where torch recorded them; the names."""
    names: set[str] = set()
    for node in nodes:
        node.name = _free(name_of(node), names)
    return names


def _free(wanted: str, taken: set[str]) -> str:
    """`wanted`, numbered if need be; it is taken then."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken.add(name)
    return name


def _uniquely_named(folds: Sequence[Fold], taken: set[str]) -> Iterator[Fold]:
    for fold in folds:
        yield replace(fold, name=_free(fold.name, taken))


def _declare_types(scope: Scope, folds: Sequence[Fold]) -> None:
    """Say what shape inference found: it does not see through canonical nodes."""
    known = {value.name for value in (*scope.graph.value_info, *scope.graph.input, *scope.graph.output)}
    for fold in folds:
        found = scope.type_of(fold.source)
        for name in (fold.source, fold.target):
            if found and found.dims is not None and name not in known and name in scope.index:
                scope.graph.value_info.append(found.of(name))
                known.add(name)


def _declare_domain(model: onnx.ModelProto, needed: bool) -> None:
    if needed and not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
