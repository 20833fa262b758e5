"""Rules: what they must say, and what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hemi.errors import ConfigError
from hemi.web.request import Request
from hemi.web.response import Response
from hemi.web.reviser import Filter, Reviser
from hemi.web.rule import Rule
from tests.webkit import config, hello, load, scripted, serve


def declines(req: Request, resp: Response) -> bool:
    resp.add_header("x-declined", "1")
    return False


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({}, "must have handlets, socklets, return_code or return_file"),
        ({"return_text": "x"}, "return_text needs a return_code"),
        ({"return_code": 302}, "302 needs the target of the redirection"),
        ({"return_code": 99}, "return_code must be"),
        ({"return_code": 200, "handlets": ["scripted"]}, "not both"),
        ({"return_code": 200, "return_text": "x", "return_file": "/x"}, "must not stand beside return_text"),
        ({"if": "$nothing == 1", "return_code": 200}, "nothing"),
        ({"return_code": 200, "return_text": "$nothing"}, "nothing"),
    ],
)
def test_problems(rule: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(config(rules=[rule]))
    assert problem in str(raised.value)


def test_returns(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("from a file")
    rules = [
        {"if": '$path == "/code"', "return_code": 204},
        {"if": '$path == "/page"', "return_code": 403},
        {"if": '$path == "/text"', "return_code": 201, "return_text": "hello, $header_x_name!"},
        {
            "if": '$path == "/type"',
            "return_code": 200,
            "return_text": "{}",
            "return_type": "application/json",
        },
        {"if": '$path == "/file"', "return_file": str(path)},
        {"if": '$path == "/gone"', "return_file": str(tmp_path / "gone")},
        {"if": '$path ^= "/old/"', "return_code": 308, "return_text": "https://$hostname$uri"},
    ]
    with serve(rules=rules) as site:
        assert site.get("/code").status == 204
        page = site.get("/page")
        assert page.status == 403 and b"Forbidden" in page.content
        text = site.get("/text", x_name="Ann")
        assert (text.status, text.content) == (201, b"hello, Ann!")
        assert text.header("content-type") == "text/plain; charset=utf-8"
        assert site.get("/type").header("content-type") == "application/json"
        assert site.get("/file").content == b"from a file"
        assert site.get("/gone").status == 404
        old = site.get("/old/a%20b?c=d")
        assert (old.status, old.header("location")) == (308, "https://a.example/old/a%20b?c=d")
        assert site.get("/none").status == 404


def test_falling_through() -> None:
    """A rule whose handlets decline is passed over; within a rule the next handlet is tried."""
    rules = [
        {"if": '$path == "/a"', "handlets": [scripted(declines)]},
        {"if": '$path == "/b"', "handlets": [scripted(declines), scripted(hello)]},
        {"if": '$path == "/a"', "return_code": 200, "return_text": "second rule"},
    ]
    with serve(rules=rules) as site:
        assert site.get("/a").content == b"second rule"
        assert site.get("/b").content == b"hello"
        assert site.get("/c").status == 404


def test_log_access() -> None:
    rules = [
        {"if": '$path == "/quiet"', "return_code": 200, "log_access": False},
        {"handlets": [scripted(hello)]},
    ]
    with serve(rules=rules) as site:
        for path in ("/quiet", "/loud", "/quiet"):
            assert site.get(path).status == 200
        assert [entry.line for entry in site.access] == ["GET /loud HTTP/1.1"]


class Upper:
    def update(self, data: bytes) -> bytes:
        return data.upper()

    def finish(self) -> bytes:
        return b"!"


class Shouting(Reviser):
    """Makes both contents louder."""

    def revise_request(self, req: Request) -> Filter | None:
        req.add_header("x-revised", "1")
        return Upper() if req.content_size else None

    def revise_response(self, req: Request, resp: Response, size: int | None) -> Filter | None:
        resp.add_header("x-size", str(size))
        return Upper()


def revised(run: Any) -> Any:
    rule = Rule()
    rule.revisers = [Shouting()]
    return rule._with_revisers(run)


@pytest.mark.parametrize("streamed", [False, True])
def test_revisers(streamed: bool) -> None:
    def app(req: Request, resp: Response) -> bool:
        assert req.header("x-revised") == "1"
        content = req.content()
        if streamed:
            resp.echo(content[:2])
            resp.echo(content[2:])
        else:
            resp.send(content)
        return True

    with serve(revised(app)) as site, site.connect() as client:
        for framing in (b"hello", [b"hel", b"lo"]):
            client.request("POST", "/", content=framing)
            answer = client.answer()
            assert answer.content == b"HELLO!!"
            assert answer.header("x-size") == ("None" if streamed else "6")
            client.request("HEAD", "/")
            assert client.answer("HEAD").status == 200


def test_revisers_of_a_rule_that_declines_do_nothing() -> None:
    rules = [{"handlets": [scripted(revised(declines))]}, {"handlets": [scripted(hello)]}]
    with serve(rules=rules) as site:
        answer = site.get("/")
        assert answer.content == b"hello" and answer.header("x-size") is None
