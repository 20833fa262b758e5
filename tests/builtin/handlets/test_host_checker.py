"""One canonical host name."""

from __future__ import annotations

from typing import Any

import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi.errors import ConfigError
from tests.webkit import Answer, config, hello, load, scripted, serve


def ask(host: str, target: str = "/a?b=c", method: str = "GET", **props: Any) -> Answer:
    props = {"hostname": "www.example.com", **props}
    with (
        serve(rules=[{"handlets": [{"host_checker": props}, scripted(hello)]}]) as site,
        site.connect() as client,
    ):
        client.request(method, target, host=host, content=b"x" if method == "POST" else None)
        return client.answer()


@pytest.mark.parametrize(
    "host", ["www.example.com", "WWW.Example.COM", "www.example.com:8080", "www.example.com."]
)
def test_the_right_one_passes(host: str) -> None:
    assert ask(host).content == b"hello"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("example.com", "http://www.example.com/a?b=c"),
        ("example.com:80", "http://www.example.com/a?b=c"),
        ("example.com:8080", "http://www.example.com:8080/a?b=c"),
        ("127.0.0.1", "http://www.example.com/a?b=c"),
        ("[::1]:3080", "http://www.example.com:3080/a?b=c"),
    ],
)
def test_others_are_sent_there(host: str, expected: str) -> None:
    answer = ask(host)
    assert (answer.status, answer.header("location")) == (302, expected)


def test_statuses_keep_the_method() -> None:
    assert ask("example.com", permanent=True).status == 301
    assert ask("example.com", method="POST").status == 307
    assert ask("example.com", method="POST", permanent=True).status == 308


def test_international_names_and_odd_targets() -> None:
    assert (
        ask("example.com", hostname="b\u00fccher.example").header("location")
        == "http://xn--bcher-kva.example/a?b=c"
    )
    assert (
        ask("example.com", target="//evil.example/").header("location")
        == "http://www.example.com//evil.example/"
    )
    assert ask("example.com", target="*", method="OPTIONS").header("location") == "http://www.example.com/"


def test_a_pattern_is_a_problem() -> None:
    with pytest.raises(ConfigError, match="hostname must be one host name"):
        load(config(rules=[{"handlets": [{"host_checker": {"hostname": "*.example.com"}}]}]))
