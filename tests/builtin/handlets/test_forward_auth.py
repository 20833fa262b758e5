"""forward_auth: another server decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hemi.builtin.handlets.forward_auth  # noqa: F401
from hemi.web.request import Request
from hemi.web.response import Response
from tests.badserver import BadServer, answering, bad_server, dead_address
from tests.webkit import Site, config, running, scripted


def show(req: Request, resp: Response) -> bool:
    resp.send(f"user={req.header('x-user')} {req.header('x_user')}".encode())
    return True


@contextmanager
def guarded(server: BadServer | str, **more: Any) -> Iterator[Site]:
    address = server if isinstance(server, str) else server.address
    stage = {"backends": {"auth": {"type": "http_backend", "nodes": [{"address": address}]}}}
    guard = {"forward_auth": {"to_backend": "auth", "auth_uri": "/check?m=$method", **more}}
    with running(config(rules=[{"handlets": [guard, scripted(show)]}], stage=stage)) as site:
        yield site


def test_a_good_answer_lets_the_request_go_on_with_its_fields() -> None:
    with bad_server(answering(b"", "X-User: ann", status="204 No")) as auth:
        auth.scripts[0][1] = b"HTTP/1.1 204 No\r\nX-User: ann\r\n\r\n"
        with guarded(auth, copy_fields=["X-User"]) as site:
            answer = site.get("/x?y", x_user="root", X_User="root", cookie="s=1", accept="a/b")
            assert answer.content == b"user=ann None"
        seen = auth.requests[0]
        assert seen.line == "GET /check?m=GET HTTP/1.1"
        assert seen.header("cookie") == "s=1"
        assert seen.header("accept") is None
        assert seen.header("x-forwarded-uri") == "/x?y"


def test_another_answer_is_the_clients() -> None:
    script = answering(b"login", "Location: /login", "Set-Cookie: a=b", status="302 Found")
    with bad_server(script) as auth, guarded(auth) as site:
        answer = site.get("/")
        assert (answer.status, answer.content) == (302, b"login")
        assert answer.header("location") == "/login"
        assert answer.header("set-cookie") == "a=b"


def test_without_an_answer_nothing_goes_on() -> None:
    with guarded(dead_address()) as site:
        assert site.get("/").status == 503
        assert "connection refused" in site.log.of("error", "proxy")[0].message


def test_good_answers_are_kept_and_bad_ones_are_not() -> None:
    for status, asked in (("200 OK", 1), ("401 No", 3)):
        script = answering(b"", status=status)
        with bad_server(script) as auth, guarded(auth, cache_key="$header_authorization") as site:
            for _ in range(3):
                site.get("/", authorization="Bearer x")
            assert len(auth.requests) == asked
            site.get("/", authorization="Bearer y")
            site.get("/")
            site.get("/")
            assert len(auth.requests) == asked + 3
