"""The built-in error pages."""

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.web.errorpages import HTML, JSON, TEXT, error_page
from hemi.web.statuses import REASONS

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, TEXT),
        ("", TEXT),
        ("*/*", TEXT),
        (CHROME, HTML),
        ("text/html", HTML),
        ("application/json", JSON),
        ("application/json, text/plain, */*", JSON),  # axios
        ("text/plain;q=0.5, application/json", JSON),
        ("image/png", TEXT),
        ("text/html;q=0, */*", TEXT),
    ],
)
def test_the_form_that_the_client_likes(accept: str | None, form: str) -> None:
    assert error_page(404, accept)[0] == form


@pytest.mark.parametrize("status", [*REASONS, 299, 499, 599])
def test_every_status_has_a_page(status: int) -> None:
    content = error_page(status, CHROME)[1].decode()
    assert f'<p class="status">{status}</p>' in content
    assert "<footer>gorox</footer>" in content
    assert len(content) < 2500
    assert "://" not in content, "a page loads nothing"
    HTMLParser().feed(content)
    assert json.loads(error_page(status, JSON)[1])["status"] == status
    assert error_page(status)[1].startswith(b"%d " % status)


def test_pages_without_text_are_made_once() -> None:
    assert error_page(404, CHROME)[1] is error_page(404, "text/html")[1]


@given(st.text())
def test_text_is_escaped(text: str) -> None:
    content = error_page(400, "text/html", text)[1]
    assert content.count(b"<") == error_page(400, "text/html", "")[1].count(b"<")
    json.loads(error_page(400, "application/json", text)[1])
    error_page(400, "text/plain", text)


def test_a_script_is_shown_and_not_run() -> None:
    content = error_page(400, CHROME, '<script>alert("x")</script>')[1]
    assert b"&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in content
