"""The examples of HTTP/2 to the servers behind do what their comments say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from tests.h2node import Node2
from tests.processes.test_grpc import ask, serving
from tests.running import TOP_DIR
from tests.webkit import Site, running, until


@contextmanager
def example(name: str, **changes: str) -> Iterator[Site]:
    """Runs an example; each change must have something to change."""
    text = (TOP_DIR / "conf" / "examples" / name).read_text()
    for old, new in {":3080": "127.0.0.2:0", **changes}.items():
        assert old in text
        text = text.replace(old, new)
    with running(yaml.safe_load(text)) as site:
        yield site


def test_grpc() -> None:
    with serving() as one, example("grpc.yaml", **{"127.0.0.1:50051": one.address, "2s": "50ms"}) as site:
        nodes = site.stage.members["backends"]["greeter"].roster.nodes
        until(lambda: [node.status for node in nodes] == ["up", "down"], 20)
        assert ask(site, "unary")[0] == "cba"
        assert site.get().status == 404


def test_http2_upstream() -> None:
    with Node2() as node, example("http2_upstream.yaml", **{"127.0.0.1:8001": node.address}) as site:
        assert site.get().content == b"hello"
        assert node.exchanges[0][":path"] == "/"
