"""The kind of all handlets: who decides what happens next."""

from __future__ import annotations

from typing import Any

import pytest

from hemi import component as registry
from hemi.web.handlet import Handlet
from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import config, running, scripted, serve


def test_it_is_a_kind_of_its_own() -> None:
    assert registry.kinds()["handlets"] is Handlet
    assert Handlet.nested and Handlet.scope is not None
    with pytest.raises(NotImplementedError):
        Handlet().handle(None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("verdict", "content"), [(True, b"first"), (False, b"second"), (None, b"first")])
def test_the_next_one_is_asked_when_it_declines(verdict: bool | None, content: bytes) -> None:
    def first(req: Request, resp: Response) -> bool | None:
        if verdict is not False:
            resp.send(b"first")
        return verdict

    def second(req: Request, resp: Response) -> bool:
        resp.send(b"second")
        return True

    rules: list[dict[str, Any]] = [{"handlets": [scripted(first)]}, {"handlets": [scripted(second)]}]
    for way in (rules, [{"handlets": [scripted(first), scripted(second)]}]):
        with running(config(rules=way)) as site, site.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.answer().content == content


@pytest.mark.parametrize("verdict", [True, None])
def test_who_says_so_must_have_sent_something(verdict: bool | None) -> None:
    with serve(lambda req, resp: verdict) as site, site.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.answer().status == 500
