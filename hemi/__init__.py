"""Hemi: an engine for web servers, proxies and RPC servers.

Exports are lazy, so that programs which need little of Hemi (the leader, a control client) load little of it:
importing `hemi` imports neither gevent nor the engine.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.3.0.dev0"

_EXPORTS = {
    "BugError": "errors",
    "ConfigError": "errors",
    "EnvError": "errors",
    "HemiError": "errors",
    "Place": "errors",
    "Problem": "errors",
    "UsageError": "errors",
    "Component": "component",
    "prop": "component",
    "Address": "values",
    "Children": "values",
    "Condition": "values",
    "Duration": "values",
    "Hostname": "values",
    "Mode": "values",
    "Named": "values",
    "Network": "values",
    "Parts": "values",
    "Path": "values",
    "Pattern": "values",
    "Ref": "values",
    "Secret": "values",
    "Size": "values",
    "Template": "values",
    "Dirs": "config",
    "load_file": "config",
    "load_mapping": "config",
    "load_text": "config",
    "Stage": "stage",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    """Imports an exported name when it is first used."""
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
