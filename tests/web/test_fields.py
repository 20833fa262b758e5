"""Fields: validation, the view, lists, parameters, weights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.web.fields import (
    MAX_LIST,
    SINGLETONS,
    Fields,
    check_name,
    check_value,
    is_token,
    parse_parameters,
    parse_weights,
    quote_string,
    split_list,
    unquote_string,
)


def test_names_are_tokens() -> None:
    assert check_name("X-Powered_By!") == b"X-Powered_By!"
    assert check_name(b"etag") == b"etag"
    for bad in ("", "a b", "a:", "a\r\nb", "ü", "你", "a\0", b"a\x7f", "(a)"):
        with pytest.raises(ValueError, match="token"):
            check_name(bad)
    with pytest.raises(ValueError, match="response splitting"):
        check_name("a\r\nset-cookie: x=1")
    assert is_token(b"GET")
    assert not is_token(b"G T")


def test_values_have_no_controls() -> None:
    assert check_value(" text/html\t") == b"text/html"
    assert check_value("é") == b"\xe9"
    assert check_value(b"a\tb") == b"a\tb"
    assert check_value("") == b""
    for bad, attack in (
        ("a\r\nb", "response splitting"),
        (b"a\n", "response splitting"),
        ("a\0b", "truncation"),
        ("a\x1bb", "control"),
        ("你", "latin-1"),
    ):
        with pytest.raises(ValueError, match=attack):
            check_value(bad)


@given(st.binary() | st.text())
def test_a_checked_value_never_ends_the_line(value: bytes | str) -> None:
    try:
        assert not set(b"\r\n\0") & set(check_value(value))
    except ValueError:
        pass


def test_the_view() -> None:
    fields = Fields(
        [(b"host", b"a"), (b"accept", b"x"), (b"Accept", b"\xe9"), (b"cookie", b"a=1"), (b"cookie", b"b=2")]
    )
    assert fields["HOST"] == "a"
    assert fields["accept"] == "x, é"
    assert fields["cookie"] == "a=1; b=2"
    assert fields.get_all("Accept") == ["x", "é"]
    assert fields.get_all("none") == []
    assert fields.get("none") is None
    assert fields.get("none", "d") == "d"
    assert "Host" in fields
    assert "none" not in fields
    assert 5 not in fields
    assert list(fields) == ["host", "accept", "cookie"]
    assert len(fields) == 3
    assert dict(fields.items()) == {"host": "a", "accept": "x, é", "cookie": "a=1; b=2"}
    assert [name for name, _ in fields.all_items()] == ["host", "accept", "accept", "cookie", "cookie"]
    with pytest.raises(KeyError):
        fields["none"]


def test_singletons_are_lower_case() -> None:
    assert all(name == name.lower() for name in SINGLETONS)
    assert b"host" in SINGLETONS
    assert b"accept" not in SINGLETONS


@pytest.mark.parametrize(
    ("value", "members"),
    [
        ("", []),
        ("a", ["a"]),
        ("foo , ,bar,charlie", ["foo", "bar", "charlie"]),  # RFC 9110 §5.6.1.2
        (", ,", []),
        ('"a,b", c', ['"a,b"', "c"]),
        ('"a\\",b", c', ['"a\\",b"', "c"]),
        ('x;p="1,2";q=0, y', ['x;p="1,2";q=0', "y"]),
        ('"open, b', ['"open, b']),
        ('"open\\', ['"open\\']),
    ],
)
def test_split_list(value: str, members: list[str]) -> None:
    assert split_list(value) == members


def test_lists_are_capped() -> None:
    assert len(split_list("a," * 5000)) == MAX_LIST
    assert len(split_list('"a",' * 5000)) == MAX_LIST
    assert split_list("a,b,c", 2) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("", ("", {})),
        ("Text/HTML", ("text/html", {})),
        ('text/html; Charset="utf-8"', ("text/html", {"charset": "utf-8"})),
        ("text/html;charset=UTF-8 ; a = b ", ("text/html", {"charset": "UTF-8", "a": "b"})),
        ('x; a="b;c\\"d"; e', ("x", {"a": 'b;c"d'})),
        ("x; a=1; a=2; =3; ;", ("x", {"a": "1"})),
        ('x; a="', ("x", {"a": '"'})),
    ],
)
def test_parse_parameters(value: str, parsed: tuple[str, dict[str, str]]) -> None:
    assert parse_parameters(value) == parsed


@given(
    st.text(max_size=20).filter(
        lambda text: not any(ord(c) < 32 or ord(c) > 255 or ord(c) == 127 for c in text)
    )
)
def test_quoted_strings_round_trip(text: str) -> None:
    assert unquote_string(quote_string(text)) == text
    assert split_list(f"{quote_string(text)}, x") == [quote_string(text), "x"]
    assert parse_parameters(f"v; p={quote_string(text)}; q=1") == ("v", {"p": text, "q": "1"})


@given(st.text('ab",;=\\ \t'))
def test_list_syntax_never_raises(text: str) -> None:
    assert "".join(split_list(text, 10**6)) == "" or text
    parse_parameters(text)
    parse_weights(text)


def test_hostile_lists_take_linear_time() -> None:
    split_list('"\\' * 16000)
    parse_parameters(";" + '"\\' * 16000)
    parse_parameters(";a=" * 16000)


def test_weights() -> None:
    assert parse_weights("text/*;q=0.3, text/html;level=1;Q=.7, a;q=1.0, b") == [
        ("text/*", {}, 0.3),
        ("text/html", {"level": "1"}, 0.7),
        ("a", {}, 1.0),
        ("b", {}, 1.0),
    ]
    for bad in ("1.1", "2", "-1", "x", "", "0.5.5", "nan", "1e-1", "٠"):
        assert parse_weights(f"a;q={bad}") == []
