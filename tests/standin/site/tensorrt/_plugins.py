"""The registry: a library must really load, and offer what TensorRT's loader asks for."""

from __future__ import annotations

import ctypes
from typing import Any

from ._contract import Checked, ContractError, checked_function

_CREATORS = [(name, "1", "apa") for name in ("APA", "AGLU", "APACodes", "AGLUCodes")]
_COUNTS = (2, 4)  # of an older library, of this one


class IPluginRegistry(Checked):
    def __init__(self) -> None:
        self._loaded: dict[str, int] = {}
        self._registered: dict[tuple[str, str, str], Any] = {}

    def register_creator(self, creator: Any, plugin_namespace: str = "") -> bool:
        """False where one of this type is registered, were it the same (IPluginRegistry::registerCreator)."""
        key = (creator.name, creator.plugin_version, plugin_namespace)
        is_new = key not in self._registered
        self._registered.setdefault(key, creator)
        return is_new

    def get_creator(self, type: str, version: str, plugin_namespace: str = "") -> Any:
        if found := self._registered.get((type, version, plugin_namespace)):
            return found
        known = _CREATORS[: max(self._loaded.values(), default=0)]
        return object() if (type, version, plugin_namespace) in known else None

    def load_library(self, plugin_path: str) -> Any:
        """None where any of its plugins are registered, by whichever path (IPluginRegistry::loadLibrary)."""
        if any(self.get_creator(*key) for key in _CREATORS):
            return None
        try:
            library, count = ctypes.CDLL(plugin_path), ctypes.c_int(0)
            library.getCreators(ctypes.byref(count))
        except (OSError, AttributeError):
            return None
        if count.value not in _COUNTS:
            return None
        self._loaded[plugin_path] = count.value
        return plugin_path

    def deregister_library(self, handle: Any) -> None:
        if handle not in self._loaded:
            raise ContractError(f"deregister_library({handle!r}): not a handle that is loaded")
        del self._loaded[handle]


_REGISTRY = IPluginRegistry()


@checked_function
def get_plugin_registry() -> Any:
    return _REGISTRY


@checked_function
def init_libnvinfer_plugins(logger: Any, namespace: str) -> bool:
    return True


def creator_of(node: Any) -> Any:
    """Of a Python plugin that was registered for an ONNX node; None without one."""
    named = {attribute.name: attribute.s.decode() for attribute in node.attribute if attribute.type == 3}
    key = (node.op_type, named.get("plugin_version", ""), named.get("plugin_namespace", ""))
    return _REGISTRY._registered.get(key)


def has_creators() -> bool:
    return bool(_REGISTRY._loaded)
