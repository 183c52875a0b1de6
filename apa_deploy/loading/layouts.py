"""Where a file keeps its weights, and how its keys become those of a network.

{"state_dict": {"model._orig_mod.conv1.weight": ..., "criterion.weight": ...}, "epoch": 3}   ->   conv1.weight

Wrappers leave their names anywhere in a key, frameworks put an attribute before it, weight norm splits a weight in
two. Nothing of it is known from a list of frameworks: keys are matched with those of the network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .stand_ins import StoredArray

State = dict[str, Tensor]
# Where the weights lie, by what is asked for, in the order of preference.
_KEYS = {
    "model": (
        "model", "state_dict", "model_state_dict", "net", "module", "network", "model_state", "net_state_dict",
        "params", "weights",
    ),
    "ema": (
        "model_ema", "ema_state_dict", "state_dict_ema", "ema", "ema_model", "model_ema_state_dict", "params_ema",
    ),
}  # fmt: skip
# What an average may lie in, below its key.
_WITHIN_EMA = ("shadow", "state_dict", "module", "model", "ema_model", "weights")
_BEFORE_AVERAGE = "current_model_state"  # of WeightAveraging, whose state_dict is the average
_AVERAGES = re.compile(r"ema|averag|shadow|swa", re.IGNORECASE)
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
_LEADING = "module."  # DataParallel's and DDP's
_COUNTER = "n_averaged"
_EXTRA = "_extra_state"
# Parts of a training module that are no network, where they have tensors of their own.
_BESIDE = re.compile(r"loss|criteri|metric|ema|teacher|optim|augment", re.IGNORECASE)
# Keys of a network that are looked up to find what stands before them.
_ASKED = 64


def as_state(value: Any) -> State | None:
    """`value` as tensors by name, extra states left out; None where it is anything else."""
    if not isinstance(value, Mapping) or not value or not all(isinstance(key, str) for key in value):
        return None
    state: State = {}
    for key, item in value.items():
        if key.rpartition(".")[2] == _EXTRA:
            continue
        tensor = item.tensor() if isinstance(item, StoredArray) else item
        if not isinstance(tensor, Tensor):
            return None
        state[key] = tensor
    return state or None


def state_in(content: Any, weights: str) -> State | None:
    """The weights in what a file holds: the content itself, or under a framework's key, or whatever is there.

    Several of unknown names keep these before their keys, for `fit_to` to choose by.

    Args:
        weights: "model", or "ema" for averaged ones.
    """
    if isinstance(content, list | tuple):
        states = [state for item in content if (state := state_in(item, weights))]
        return states[0] if len(states) == 1 else None
    if not isinstance(content, Mapping):
        return None
    if weights == "ema":
        places = [*(content.get(key) for key in _KEYS["ema"]), *_averages_of_lightning(content)]
        return next((state for place in places if (state := _average(place))), None)
    if _averages_of_lightning(content) and (plain := as_state(content.get(_BEFORE_AVERAGE))):
        return plain
    if whole := as_state(content):
        return whole
    known = {key: s for key in _KEYS["model"] if (s := as_state(content.get(key)))}
    first = next(iter(known.values()), None)
    if first and all(s.keys() != first.keys() or _are_equal(s, first) for s in known.values()):
        return first
    others = known or {
        str(k): s for k, value in content.items() if k not in _KEYS["ema"] and (s := as_state(value))
    }
    if not others:  # a file of a framework inside another's
        within = (content.get(key) for key in _KEYS["model"])
        return next((s for value in within if isinstance(value, Mapping) and (s := state_in(value, weights))), None)
    if len(others) == 1:
        return next(iter(others.values()))
    return {f"{name}.{key}": value for name, state in others.items() for key, value in state.items()} or None


def group_averages(state: State) -> Mapping[str, Any]:
    """What torch.distributed.checkpoint flattened, averages under their key again; all else keeps its names."""
    content: dict[str, Any] = {"model": {}}
    for key, value in state.items():
        top, _, rest = key.partition(".")
        if top not in _KEYS["ema"]:
            content["model"][key] = value
            continue
        within, _, name = rest.partition(".")
        place = content.setdefault(top, {})
        if within in _WITHIN_EMA:
            place.setdefault(within, {})[name] = value
        else:
            place[rest] = value
    return content


def _averages_of_lightning(content: Mapping[Any, Any]) -> list[Any]:
    """Where Lightning keeps averages: in `state_dict`, the plain weights having another key, or in a callback."""
    found = [content.get("state_dict")] if _BEFORE_AVERAGE in content else []
    callbacks = content.get("callbacks")
    for name, state in callbacks.items() if isinstance(callbacks, Mapping) else ():
        if isinstance(state, Mapping):
            found += [v for k, v in state.items() if isinstance(v, Mapping) and _AVERAGES.search(f"{name} {k}")]
    return found


def _average(value: Any) -> State | None:
    if state := as_state(value):
        return state
    inner = (as_state(value.get(key)) for key in _WITHIN_EMA) if isinstance(value, Mapping) else ()
    return next((state for state in inner if state), None)


def unwrap_keys(state: Mapping[str, Tensor]) -> State:
    """Without the names of wrappers, wherever they stand in a key, and without EMA's counter."""
    kept = {_without_wrappers(key): value for key, value in state.items() if key != _COUNTER}
    while kept and all(key.startswith(_LEADING) for key in kept):
        kept = {key.removeprefix(_LEADING): value for key, value in kept.items()}
    return kept


def _without_wrappers(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def fit_to(own: Mapping[str, Tensor], state: State, weights: str = "model") -> tuple[State, tuple[str, ...]]:
    """`state` under the keys of a network's `own`, as far as they match, and what was left beside them.

    Keys of `state` that match nothing keep their names, for whoever reports them.

    Raises:
        InputError: two parts of `state` fit equally well and differ.
    """
    names = {_without_wrappers(key): key for key in own if key.rpartition(".")[2] != _EXTRA}
    while names and all(key.startswith(_LEADING) for key in names):
        names = {key.removeprefix(_LEADING): real for key, real in names.items()}
    state = whole_weights(unwrap_keys(state), names)
    deeper = prefix_of(list(state), names)  # what a network puts before the keys of the file
    if deeper and all(key.startswith(deeper) for key in names):
        names = {key.removeprefix(deeper): real for key, real in names.items()}
    before = prefix_of(list(names), state, weights)
    _refuse_rivals(before, list(names), state)
    fitted = {names.get(key.removeprefix(before), key): v for key, v in state.items() if key.startswith(before)}
    beside = tuple(key for key in state if not key.startswith(before))
    _split_weights(fitted, own, before)
    heads = {key.partition(".")[0] for key in names}
    spare = [key for key in fitted if key not in names.values() and _is_spare(key, heads)]
    return {key: value for key, value in fitted.items() if key not in spare}, (*beside, *spare)


def _is_spare(key: str, heads: set[str]) -> bool:
    head = key.removeprefix(_LEADING).partition(".")[0]
    return head not in heads and bool(_BESIDE.search(head))


def prefix_of(wanted: list[str], state: Iterable[str], weights: str = "model") -> str:
    """What stands before the keys `wanted` in `state`, "model." or more: what most of them have.

    Of two that fit equally, the averaged ones only where those are asked for.
    """
    counts, ema = _count_by_prefix(wanted, set(state)), weights == "ema"
    return max(counts, key=lambda p: (counts[p], ("ema" in p) is ema, -len(p)))


def _count_by_prefix(wanted: list[str], have: set[str]) -> dict[str, int]:
    """How many of the keys `wanted` there are behind each prefix."""
    step = max(1, len(wanted) // _ASKED)
    found = {key[: -len(name)] for name in wanted[::step] for key in have if f".{key}".endswith(f".{name}")}
    return {prefix: sum(prefix + name in have for name in wanted) for prefix in sorted(found | {""})}


def _refuse_rivals(before: str, wanted: list[str], state: State) -> None:
    """A student and a teacher, two networks of one kind: which of them is meant cannot be told."""
    counts = _count_by_prefix(wanted, set(state))
    for other, count in counts.items():
        if other == before or not count or count != counts[before] or ("ema" in other) != ("ema" in before):
            continue
        names = [name for name in wanted if before + name in state and other + name in state]
        if not _are_equal(*({name: state[start + name] for name in names} for start in (before, other))):
            saw = f"weights of the network under {before or 'its own names'} and, others, under {other}"
            raise InputError(saw, "one network's", "Save the state dict of the one that is meant.")


def _are_equal(one: State, other: State) -> bool:
    return all(torch.equal(value, other[key]) for key, value in one.items())


def network_part(state: State) -> State:
    """The part of `state` that is one of upstream's networks, by two keys that all of them have.

    mmdet's "backbone." stays: it says that necks and heads were left out.

    Raises:
        InputError: two parts are one, and differ.
    """
    wanted = ["conv1.weight", "layer1.0.conv1.weight"]
    before = prefix_of(wanted, state)
    _refuse_rivals(before, wanted, state)
    before = before.removesuffix("backbone.")
    return whole_weights({k.removeprefix(before): v for k, v in state.items() if k.startswith(before)})


def whole_weights(state: State, wanted: Iterable[str] = ()) -> State:
    """Weights that weight norm or spectral norm keeps in parts, put together; not where `wanted` has the parts."""
    kept, known = dict(state), set(wanted)
    for key in state:
        for ends, join in _SPELLINGS:
            stem = key.removesuffix(ends[0])
            parts = [stem + end for end in ends]
            if stem != key and all(part in kept for part in parts) and not known.intersection(parts):
                kept[stem.replace("parametrizations.", "")] = join(*(kept.pop(part) for part in parts))
    return kept


def _split_weights(fitted: State, own: Mapping[str, Tensor], before: str) -> None:
    """Put whole weights into the parts that a network with weight norm has: the norm over the axes of `own`'s."""
    for first, second in (ends for ends, join in _SPELLINGS if join is _weight_norm):
        for key in (key for key in own if key.endswith(first)):
            stem = key.removesuffix(first)
            whole = stem.replace("parametrizations.", "")
            found = next((name for name in (whole, before + whole) if name in fitted and name not in own), "")
            if found and stem + second in own and not {key, stem + second} & fitted.keys():
                weight, size = fitted.pop(found), own[key]
                axes = [i for i, n in enumerate(size.shape) if n == 1] if size.ndim == weight.ndim else []
                squares = weight.double().square().sum(axes or None, keepdim=bool(axes))
                fitted[key], fitted[stem + second] = squares.sqrt().to(weight.dtype), weight


def _weight_norm(size: Tensor, direction: Tensor) -> Tensor:
    """size * direction / |direction|, the norm over the axes along which `size` has one value."""
    axes = [i for i, n in enumerate(size.shape) if n == 1] if size.ndim == direction.ndim else []
    return (
        size * direction / direction.double().square().sum(axes or None, keepdim=bool(axes)).sqrt().to(size.dtype)
    )


def _spectral_norm(weight: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """weight / sigma, sigma = u' W v; a transposed convolution's W has its second axis first."""
    matrix = weight if weight.shape[0] == left.numel() else weight.transpose(0, 1)
    return weight / torch.dot(left, matrix.reshape(left.numel(), -1) @ right)


# Ends of the keys of one weight: of torch's parametrizations, then of the older hooks.
_SPELLINGS: tuple[tuple[tuple[str, ...], Callable[..., Tensor]], ...] = (
    ((".original0", ".original1"), _weight_norm),
    ((".original", ".0._u", ".0._v"), _spectral_norm),
    (("_g", "_v"), _weight_norm),
    (("_orig", "_u", "_v"), _spectral_norm),
)
