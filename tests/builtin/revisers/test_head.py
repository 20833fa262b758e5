"""Fields that are added, set and deleted."""

from __future__ import annotations

from typing import Any

import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi.errors import ConfigError
from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import Answer, config, load, scripted, serve


def mirror(req: Request, resp: Response) -> bool:
    """Answers with the head of the request, and some fields of its own."""
    resp.add_header("x-own", "1")
    resp.add_header("x-own", "2")
    resp.add_header("cache-control", "private")
    resp.content_type = "text/plain"
    resp.send(b"\n".join(sorted(name + b"=" + value for name, value in req.fields)))
    return True


def ask(target: str = "/a", fields: list[tuple[str, str]] | None = None, **props: Any) -> Answer:
    rules = [{"handlets": [scripted(mirror)], "revisers": [{"head": props}]}]
    with serve(rules=rules) as site, site.connect() as client:
        client.request("GET", target, fields or [])
        return client.answer()


def values(answer: Answer, name: str) -> list[str]:
    return [value for key, value in answer.fields if key == name]


def received(answer: Answer) -> set[str]:
    return set(answer.content.decode("latin-1").split("\n"))


def test_responses() -> None:
    answer = ask(
        delete_response=["Cache-Control"],
        set_response={"X-Own": "3", "Content-Type": "text/html"},
        add_response={"x-own": "4", "X-Path": "$method $path"},
    )
    assert values(answer, "x-own") == ["3", "4"]
    assert values(answer, "x-path") == ["GET /a"]
    assert values(answer, "cache-control") == []
    assert values(answer, "content-type") == ["text/html"]


def test_requests() -> None:
    answer = ask(
        fields=[("X-A", "1"), ("X-A", "2"), ("X-B", "b"), ("X-Gone", "x")],
        delete_request=["x-gone"],
        set_request={"X-A": "was $header_x_a", "x-new": "$src_host"},
        add_request={"X-B": "c"},
    )
    assert received(answer) == {"host=a.example", "x-a=was 1, 2", "x-new=127.0.0.1", "x-b=b", "x-b=c"}


def test_changed_fields_read_as_any_others() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.send_json([req.header("x-a"), req.header("x-b"), req.cookies])
        return True

    props = {"add_request": {"x-a": "3", "cookie": "c=$cookie_a"}, "delete_request": ["x-c"]}
    with (
        serve(rules=[{"handlets": [scripted(app)], "revisers": [{"head": props}]}]) as site,
        site.connect() as client,
    ):
        fields = [("X-A", "1"), ("X-B", "1"), ("X-A", "2"), ("X-B", "2"), ("X-C", "x"), ("Cookie", "a=b")]
        client.request("GET", "/", fields)
        assert client.answer().content == b'["1, 2, 3","1, 2",{"a":"b","c":"b"}]'


def test_handlets_see_what_was_set() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.send(f"{req.header('x-user')} {req.header('x-spoofed')}")
        return True

    props = {"set_request": {"x-user": "alice"}, "delete_request": ["X-Spoofed"]}
    with (
        serve(rules=[{"handlets": [scripted(app)], "revisers": [{"head": props}]}]) as site,
        site.connect() as client,
    ):
        for _ in range(3):  # the head may be known by then: it must not be changed for the next request
            client.request("GET", "/", {"X-User": "mallory", "X-Spoofed": "yes"})
            assert client.answer().content == b"alice None"


def test_a_value_that_comes_to_nothing_is_left_out() -> None:
    answer = ask(
        add_response={"x-query": "$query_a"},
        set_response={"x-own": "$query_a"},
        add_request={"x-q": "$query_a"},
    )
    assert values(answer, "x-query") == [] and values(answer, "x-own") == []
    assert received(answer) == {"host=a.example"}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/a%0d%0aSet-Cookie:%20b=1", "/a%0D%0ASet-Cookie: b=1"),
        ("/%C3%BC", "/%C3%BC"),
        ("/%E9", "/%E9"),
        ("/%7f", "/%7F"),
    ],
)
def test_values_cannot_split_the_message(target: str, expected: str) -> None:
    answer = ask(target, set_response={"x-path": "$path"}, set_request={"x-path": "$path"})
    assert values(answer, "x-path") == [expected]
    assert values(answer, "set-cookie") == []
    assert f"x-path={expected}" in received(answer)


def test_they_run_in_order_and_for_errors() -> None:
    revisers = [{"head": {"set_response": {"x-a": "1"}}}, {"head": {"add_response": {"x-a": "2"}}}]
    with serve(rules=[{"return_code": 404, "revisers": revisers}]) as site:
        assert values(site.get("/"), "x-a") == ["1", "2"]


def test_the_server_field_can_be_another() -> None:
    assert values(ask(set_response={"server": "other"}), "server") == ["other"]


@pytest.mark.parametrize(
    ("props", "message"),
    [
        ({"set_response": {"Content-Length": "1"}}, 'set_response must not have "Content-Length"'),
        ({"delete_response": ["transfer-encoding"]}, 'delete_response must not have "transfer-encoding"'),
        ({"add_request": {"connection": "close"}}, 'add_request must not have "connection"'),
        ({"set_request": {"Host": "x"}}, 'set_request must not have "Host": requests have found'),
        ({"delete_response": ["server"]}, "server_header"),
        ({"set_response": {"date": "x"}}, 'set_response must not have "date"'),
        ({"add_response": {"a b": "x"}}, "add_response a field name must be a token"),
        (
            {"add_response": {"a": "x\r\ny"}},
            'add_response "a": a field value must not have control characters',
        ),
        ({"add_response": {"a": "$nothing"}}, "there is no variable $nothing"),
        ({}, "must have something to add, set or delete"),
    ],
)
def test_problems(props: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(config(rules=[{"return_code": 200, "revisers": [{"head": props}]}]))
    assert message in str(caught.value)
