"""Tags of sticky clients."""

from __future__ import annotations

import re

from hemi.upstream.sticky import make_tag

SECRET = "0123456789abcdef"


def test_a_tag_is_the_same_everywhere() -> None:
    assert make_tag(SECRET, "api", "10.0.0.1:80") == make_tag(SECRET, "api", "10.0.0.1:80")


def test_tags_differ_by_node_backend_and_secret() -> None:
    tags = {
        make_tag(secret, backend, node)
        for secret in (SECRET, SECRET + "!")
        for backend in ("api", "web")
        for node in ("10.0.0.1:80", "10.0.0.1:81")
    }
    assert len(tags) == 8


def test_names_cannot_be_shifted_into_each_other() -> None:
    assert make_tag(SECRET, "a", "b:1") != make_tag(SECRET, "ab", ":1")


def test_a_tag_fits_into_a_cookie_and_hides_the_node() -> None:
    tag = make_tag(SECRET, "api", "10.0.0.1:80")
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", tag)
