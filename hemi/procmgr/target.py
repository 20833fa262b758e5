"""Where a cmdui is: a loopback address and port, or the path of a Unix domain socket."""

from __future__ import annotations

import os

from hemi.errors import UsageError

__all__ = ["DEFAULT", "parse_target", "show_target"]

DEFAULT = "127.0.0.1:9527"

MOST_PATH = 107
"""Bytes that a path of a socket may have (unix(7))."""

Target = tuple[str, int] | str


def parse_target(text: str) -> Target:
    """(host, port), or a path. Raises UsageError."""
    if text.startswith("unix:") or "/" in text:
        path = text.removeprefix("unix:")
        if not path or len(os.fsencode(path)) > MOST_PATH or "\0" in path:
            raise UsageError(f"the path of a socket must have 1 to {MOST_PATH} bytes: {text!r}")
        return path
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"the address of cmdui must be HOST:PORT or a path, such as {DEFAULT}, not {text!r}")
    if host == "localhost":
        host = "127.0.0.1"
    if host != "::1" and not _is_loopback(host):
        raise UsageError(f"cmdui must be at a loopback address or a path, not at {host}: it is not encrypted")
    return host, int(port)


def show_target(target: Target) -> str:
    """The text of an address."""
    if isinstance(target, str):
        return target
    host, port = target
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    parts = host.split(".")
    return (
        len(parts) == 4
        and parts[0] == "127"
        and all(p.isascii() and p.isdigit() and int(p) < 256 for p in parts)
    )
