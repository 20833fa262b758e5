"""Content negotiation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.web.negotiate import best, best_coding, best_language, weigh_type

RFC_9110 = (
    "text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, text/plain;format=fixed;q=0.4, */*;q=0.5"
)


@pytest.mark.parametrize(
    ("offer", "weight"),  # RFC 9110 §12.5.1
    [
        ("text/plain;format=flowed", 1),
        ("text/plain", 0.7),
        ("text/html", 0.3),
        ("image/jpeg", 0.5),
        ("text/plain;format=fixed", 0.4),
        ("text/html;level=3", 0.3),
    ],
)
def test_the_table_of_the_rfc(offer: str, weight: float) -> None:
    assert weigh_type(offer, RFC_9110) == weight


@pytest.mark.parametrize(
    ("header", "choice"),
    [
        (None, "text/html"),
        ("", "text/html"),
        ("*/*", "text/html"),
        ("*", "text/html"),
        ("application/json", "application/json"),
        ("APPLICATION/*", "application/json"),
        ("application/json;q=0.9, text/html;q=0.8", "application/json"),
        ("text/html;q=0, */*", "application/json"),
        ("image/png", None),
        ("*/*;q=0", None),
    ],
)
def test_best(header: str | None, choice: str | None) -> None:
    assert best(["text/html", "application/json"], header) == choice


@pytest.mark.parametrize(
    ("header", "choice"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip, deflate, br", "br"),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("GZIP;q=0.5", "gzip"),
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("br;q=0, *", "gzip"),
        ("*", "br"),
        ("deflate", "identity"),
        ("gzip;q=0", "identity"),
        ("identity", "identity"),
        ("gzip, identity", "gzip"),
        ("gzip;q=0.5, identity", "identity"),
        ("gzip;q=0.5, identity;q=0", "gzip"),
        ("deflate, identity;q=0", None),
        ("deflate, *;q=0", None),
        ("*;q=0", None),
        ("identity, *;q=0", "identity"),
        ("gzip;q=x", "identity"),
    ],
)
def test_best_coding(header: str | None, choice: str | None) -> None:
    assert best_coding(["br", "gzip"], header) == choice


@pytest.mark.parametrize(
    ("header", "choice"),
    [
        (None, "en"),
        ("de", "de-CH"),
        ("de-ch", "de-CH"),
        ("de-CH-1996", "de-CH"),
        ("fr, en;q=0.5", "en"),
        ("en-GB, de;q=0.9", "en"),
        ("fr", None),
        ("*", "en"),
        ("en;q=0, *", "de-CH"),
        ("e", None),
    ],
)
def test_best_language(header: str | None, choice: str | None) -> None:
    assert best_language(["en", "de-CH", "zh-Hans"], header) == choice


@given(st.text(max_size=40) | st.text("abq=0.5;,*/ ", max_size=40))
def test_never_raises(header: str) -> None:
    assert best(["a/b", "b/a"], header) in ("a/b", "b/a", None)
    assert best_coding(["a", "b"], header) in ("a", "b", "identity", None)
    assert best_language(["a", "b"], header) in ("a", "b", None)
