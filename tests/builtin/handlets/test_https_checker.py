"""Plain requests go to https."""

from __future__ import annotations

from typing import Any

import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi.errors import ConfigError
from tests.webkit import Answer, config, hello, load, scripted, serve


def ask(
    host: str | None, target: str = "/a?b=c", method: str = "GET", scheme: str = "http", **props: Any
) -> Answer:
    rules = [{"handlets": [{"https_checker": props}, scripted(hello)]}]
    with serve(rules=rules, server={"forced_scheme": scheme}) as site, site.connect() as client:
        client.request(method, target, host=host, content=b"x" if method == "POST" else None)
        return client.answer()


def test_secure_requests_pass() -> None:
    assert ask("example.com", scheme="https").content == b"hello"


@pytest.mark.parametrize(
    ("host", "props", "expected"),
    [
        ("example.com", {}, "https://example.com/a?b=c"),
        ("example.com:3080", {}, "https://example.com/a?b=c"),
        ("example.com:3080", {"port": 3443}, "https://example.com:3443/a?b=c"),
        ("[::1]:3080", {"port": 3443}, "https://[::1]:3443/a?b=c"),
        ("example.com", {"authority": "secure.example.com:8443"}, "https://secure.example.com:8443/a?b=c"),
    ],
)
def test_plain_requests_are_sent_there(host: str, props: dict[str, Any], expected: str) -> None:
    answer = ask(host, **props)
    assert (answer.status, answer.header("location")) == (302, expected)


def test_statuses_keep_the_method() -> None:
    assert ask("example.com", permanent=True).status == 301
    assert ask("example.com", method="POST").status == 307
    assert ask("example.com", method="POST", permanent=True).status == 308


def test_without_a_host_there_is_nowhere_to_go() -> None:
    with serve(rules=[{"handlets": ["https_checker"]}]) as site, site.connect() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.answer().status == 400


def test_problems() -> None:
    with pytest.raises(ConfigError, match="authority must be a host"):
        load(config(rules=[{"handlets": [{"https_checker": {"authority": "a b"}}]}]))
