"""The requests that a new process makes of itself."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from hemi.errors import ConfigError, EnvError
from tests.tlskit import Authority
from tests.webkit import Site, config, load, running, serve

RULES = [
    {"if": '$path == "/bad"', "return_code": 500, "return_text": "bad"},
    {"if": '$path == "/cut"', "return_code": 444},
    {"return_code": 200, "return_text": "$scheme $hostname $uri $src_host"},
]


def asked(site: Site) -> list[tuple[int, str, str]]:
    return [(each.status, each.line, each.src_host) for each in site.access]


def test_paths_and_urls() -> None:
    urls = ["/", "/a?b=c", "http://other.example:81/d"]
    with serve(rules=RULES, server={"warm_up": urls}, webapp={"hostnames": ["*", "app.example"]}) as site:
        site.server.rehearse()
        assert asked(site) == [
            (200, "GET / HTTP/1.1", "127.0.0.1"),
            (200, "GET /a?b=c HTTP/1.1", "127.0.0.1"),
            (200, "GET /d HTTP/1.1", "127.0.0.1"),
        ]


def test_what_is_no_good_answer() -> None:
    with serve(rules=RULES, server={"warm_up": ["/", "/bad", "/"]}) as site:
        with pytest.raises(EnvError, match="the answer to GET /bad must be below 500, not 500"):
            site.server.rehearse()
        assert len(asked(site)) == 2


def test_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(server={"warm_up": ["/x"]}) as site:
        ours, theirs = socket.socketpair()
        theirs.close()
        monkeypatch.setattr(site.server.gates[0], "connect", lambda: ours)
        with pytest.raises(EnvError, match="GET /x has no answer: BrokenPipe"):
            site.server.rehearse()


@pytest.mark.parametrize("proxied", [False, True])
def test_tls_and_proxy_headers(tmp_path: Path, proxied: bool) -> None:
    identity = Authority(tmp_path).issue("a.example", "a.example")
    mapping = config(
        rules=RULES,
        server={"tls": True, "warm_up": ["/", "https://a.example/"], "proxy_protocol": proxied},
        webapp={
            "hostnames": ["a.example"],
            "tls_certificate": identity.certificate,
            "tls_private_key": identity.private_key,
        },
    )
    with running(mapping) as site:
        site.server.rehearse()
        assert [status for status, _, _ in asked(site)] == [200, 200]


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        ({"warm_up": ["login"]}, 'warm_up must be a path or a URL such as "/login"'),
        ({"warm_up": ["ftp://x/"]}, "must be a path or a URL"),
        ({"warm_up": ["/a b"]}, "must be a path or a URL"),
        ({"warm_up": ["http://[::1/"]}, "must be a path or a URL"),
        ({"warm_up": ["/"], "protocols": ["h2"]}, "warm_up needs http/1.1"),
    ],
)
def test_problems(server: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(config(server=server))
    assert problem in str(raised.value)
