"""Limits of requests, where they come from, and that they hold."""

from __future__ import annotations

from typing import Any

import pytest

from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import config, load, scripted, serve


def size(req: Request, resp: Response) -> bool:
    resp.send(str(len(req.content())))
    return True


def rules(**limits: Any) -> list[dict[str, Any]]:
    return [
        {"if": '$path == "/rule"', "handlets": [scripted(size)], **limits},
        {"handlets": [scripted(size)]},
    ]


def status(site: Any, path: str, content: Any) -> int:
    with site.connect() as client:
        try:
            client.request("POST", path, content=content)
        except OSError:
            pass
        return int(client.answer().status)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("name", ["max_content_size", "max_memory_content_size"])
def test_rules_override_webapps(name: str, chunked: bool) -> None:
    with serve(rules=rules(**{name: 20}), webapp={name: 10}) as site:
        for path, limit in (("/", 10), ("/rule", 20)):
            for excess in (0, 1):
                content = b"x" * (limit + excess)
                found = status(site, path, [content] if chunked else content)
                assert found == (413 if excess else 200), (path, excess)


@pytest.mark.parametrize("chunked", [False, True])
def test_no_content_at_all(chunked: bool) -> None:
    with serve(size, webapp={"max_content_size": 0}) as site:
        assert status(site, "/", [b"x"] if chunked else b"x") == 413
        assert status(site, "/", [] if chunked else b"") == 200


def test_form_limits() -> None:
    stage = load(config(size, webapp={"max_form_fields": 3, "max_form_files": 2, "spool_size": "1K"}))
    (webapp,) = stage.members["webapps"].values()
    limits: Any = webapp.form_limits()  # type: ignore[attr-defined]
    assert (limits.max_fields, limits.max_files, limits.max_parts, limits.spool_size) == (3, 2, 5, 1024)
