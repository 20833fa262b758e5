"""Sites that are a proxy of scripted upstreams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hemi.builtin.backends.http_backend
import hemi.builtin.handlets.http_proxy  # noqa: F401
from tests.badserver import BadServer
from tests.webkit import Site, config, running


@contextmanager
def proxying(
    *upstreams: BadServer | str,
    backend: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    rule: dict[str, Any] | None = None,
    webapp: dict[str, Any] | None = None,
    backends: dict[str, Any] | None = None,
    folder: str | None = None,
    address: str = "127.0.0.1:0",
    **proxy: Any,
) -> Iterator[Site]:
    """A site with http_proxy for all requests; further keywords are its properties."""
    nodes = [{"address": one if isinstance(one, str) else one.address} for one in upstreams]
    mapping = config(
        rules=[{"handlets": [{"http_proxy": {"to_backend": "up", **proxy}}], **(rule or {})}],
        address=address,
        server=server,
        webapp=webapp,
        stage={
            "backends": {
                "up": {"type": "http_backend", "nodes": nodes, **(backend or {})},
                **(backends or {}),
            }
        },
    )
    with running(mapping, folder) as site:
        yield site


def node_of(site: Site, at: int = 0) -> Any:
    """A node of the backend."""
    return site.stage.members["backends"]["up"].roster.nodes[at]
