"""Lines of logs: what they look like, and that nobody can forge one."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.conditions import Scope
from hemi.logformat import FormatError, Stamps, compile_recorder, escape, json_escape, plain
from hemi.logsink import Sink

SCOPE = Scope(
    "log",
    {
        "src_host": "s.src_host",
        "user": "s.user",
        "method": "s.method",
        "uri": "s.uri",
        "path": "s.uri",
        "query_string": "s.query",
        "version": "'1.1'",
        "request": "f'{s.method} {s.uri} HTTP/1.1'",
        "status": "str(s.status)",
        "body_bytes_sent": "str(s.size)",
        "request_time": "'0.012'",
        "bad": "s.no_such_thing",
    },
    {"header_": "s.fields.get({name!r}, '')", "query_": "s.queries.get({name!r})"},
)


class Subject:
    """What the fake scope speaks of."""

    def __init__(self, **given: Any) -> None:
        self.src_host = "203.0.113.7"
        self.user = ""
        self.method = "GET"
        self.uri = "/a?b=c"
        self.query = "b=c"
        self.status = 200
        self.size = 1234
        self.fields: dict[str, Any] = {"referer": "http://x.example/", "user-agent": "curl/8.0"}
        self.queries = {"b": "c"}
        self.__dict__.update(given)


class NoWriter:
    target = "nowhere"
    blocks = False

    def open(self) -> None: ...
    def reopen(self) -> None: ...
    def write(self, lines: list[bytes]) -> None: ...
    def close(self) -> None: ...


def raises(error: Exception) -> None:
    raise error


def line_of(text: str, subject: Any = None, scope: Scope = SCOPE, stamps: Stamps | None = None) -> str:
    """The line that a format makes, decoded, without its newline."""
    sink = Sink(NoWriter())
    sink.closed, sink.limit = False, 1 << 30
    compile_recorder(text, scope, sink, stamps or Stamps(), raises)(subject or Subject())
    sink.settle()
    (line,) = sink.lines
    assert sink.pending == len(line)
    assert line.endswith(b"\n")
    return line[:-1].decode("utf-8")


STAMP = r"\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}"


def test_combined() -> None:
    assert re.fullmatch(
        r"203\.0\.113\.7 - - \["
        + STAMP
        + r'\] "GET /a\?b=c HTTP/1\.1" 200 1234 "http://x\.example/" "curl/8\.0"',
        line_of("combined"),
    )


def test_common() -> None:
    assert re.fullmatch(
        r"203\.0\.113\.7 - joe \[" + STAMP + r'\] "GET /a\?b=c HTTP/1\.1" 200 1234',
        line_of("common", Subject(user="joe")),
    )


def test_what_is_missing_is_a_dash() -> None:
    assert line_of("combined", Subject(fields={})).endswith(' "-" "-"')
    assert line_of("combined", Subject(fields={"referer": None})).endswith(' "-" "-"')


def test_named_formats_live_with_a_poor_scope() -> None:
    scope = Scope("poor", {"src_host": "s.src_host"})
    assert re.fullmatch(
        r"203\.0\.113\.7 - - \[" + STAMP + r'\] "-" - - "-" "-"', line_of("combined", scope=scope)
    )
    assert list(json.loads(line_of("json", scope=scope))) == ["time", "src_host"]


def test_json() -> None:
    line = json.loads(line_of("json"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", line.pop("time"))
    assert line == {
        "src_host": "203.0.113.7",
        "user": "",
        "method": "GET",
        "uri": "/a?b=c",
        "version": "1.1",
        "status": 200,
        "body_bytes_sent": 1234,
        "request_time": 0.012,
        "referer": "http://x.example/",
        "user_agent": "curl/8.0",
    }


def test_json_survives_numbers_that_are_none() -> None:
    line = line_of("json", Subject(status='2"00', uri="\\"))
    assert json.loads(line)["status"] == '2"00'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("$status", "200"),
        ("$(status)x", "200x"),
        ("$$ $status$$", "$ 200$"),
        ("{$status} {{}} %s %d", "{200} {{}} %s %d"),
        ("it's $status", "it's 200"),
        ('"$status"\t\\n', '"200"\t\\n'),
        ("é → $status", "é → 200"),
        ("no variable", "no variable"),
        ("$header_user_agent", "curl/8.0"),
        ("$query_b $query_none", "c -"),
        ("$remote_addr $remote_user $request_method $request_uri", "203.0.113.7 - GET /a?b=c"),
        ("$http_user_agent $arg_b $args $document_uri", "curl/8.0 c b=c /a?b=c"),
    ],
)
def test_templates(text: str, line: str) -> None:
    assert line_of(text) == line


def test_own_variables() -> None:
    line = line_of("$msec $pid $time_iso8601")
    assert re.fullmatch(r"\d+\.\d{3} \d+ \d{4}-.*", line)
    assert abs(float(line.split()[0]) - time.time()) < 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$statsu", "has an unknown variable $statsu; did you mean $status?"),
        ("$qqqqqq", "has an unknown variable $qqqqqq"),
        ("a $ b", 'must have a variable behind each "$" ("$$" is a dollar sign)'),
        ("$header_", "has an unknown variable $header_"),
    ],
)
def test_bad_templates(text: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        line_of(text)
    assert str(caught.value).startswith(message)


def test_a_variable_that_raises() -> None:
    failures: list[Exception] = []
    sink = Sink(NoWriter())
    compile_recorder("$bad", SCOPE, sink, Stamps(), failures.append)(Subject())
    assert not sink.lines
    assert isinstance(failures[0], AttributeError)


def test_one_python_call_a_line() -> None:
    sink = Sink(NoWriter())
    sink.closed, sink.limit = False, 1 << 30
    record = compile_recorder("combined", SCOPE, sink, Stamps(), raises)
    subject = Subject()
    record(subject)
    record(subject)  # the first one of a second makes the time
    for _ in range(3):
        calls: list[str] = []
        sys.setprofile(
            lambda frame, event, arg, calls=calls: (
                calls.append(frame.f_code.co_name) if event == "call" else None
            )
        )
        record(subject)
        sys.setprofile(None)
        if "tick" not in calls:
            break
    assert calls == ["record"]


def test_a_head_precedes_every_line() -> None:
    stamps = Stamps(lambda now: "<190>host: ")
    assert line_of("$status", stamps=stamps) == "<190>host: 200"
    assert line_of('"$uri"', Subject(uri='"'), stamps=stamps) == '<190>host: "\\x22"'


# --- forging

NASTY = st.text(
    st.one_of(st.characters(), st.sampled_from('"\\\r\n\t\0 []{}\x7f\x85\u2028\ud800\udc80é')), max_size=40
)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ('a"b', r"a\x22b"),
        ("a\\b", r"a\x5Cb"),
        ("a\r\nb", r"a\x0D\x0Ab"),
        ("\0\x1b[31m\x7f", r"\x00\x1B[31m\x7F"),
        ("é", r"\xC3\xA9"),
        ("\udcff", r"\xFF"),
        ("\ud800", r"\xED\xA0\x80"),
        ("\u2028", r"\xE2\x80\xA8"),
    ],
)
def test_escapes(value: str, line: str) -> None:
    assert escape(value) == line
    assert line_of('"$uri"', Subject(uri=value)) == f'"{line}"'


def test_a_user_with_spaces_makes_no_fields() -> None:
    user = "joe [01/Jan/2026:00:00:00 +0000] x"
    assert r" joe\x20[01/Jan/2026:00:00:00\x20+0000]\x20x [" in line_of("combined", Subject(user=user))


COMBINED = re.compile(
    r'203\.0\.113\.7 - ([^ "]+) \[' + STAMP + r'\] "([^"]*)" 200 1234 "([^"]*)" "([^"]*)"', re.ASCII
)


def unescape(text: str) -> bytes:
    return re.sub(rb"\\x([0-9A-F]{2})", lambda match: bytes((int(match[1], 16),)), text.encode("ascii"))


def as_bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


@given(NASTY, NASTY, NASTY, NASTY)
def test_nobody_forges_a_combined_line(user: str, uri: str, referer: str, agent: str) -> None:
    line = line_of("combined", Subject(user=user, uri=uri, fields={"referer": referer, "user-agent": agent}))
    assert line.isascii()
    assert line.isprintable()
    match = COMBINED.fullmatch(line)
    assert match is not None
    assert unescape(match[1]) == as_bytes(user or "-")
    assert unescape(match[2]) == as_bytes(f"GET {uri} HTTP/1.1")
    assert unescape(match[3]) == as_bytes(referer or "-")
    assert unescape(match[4]) == as_bytes(agent or "-")


@given(NASTY, NASTY)
def test_nobody_forges_a_json_line(uri: str, agent: str) -> None:
    line = line_of("json", Subject(uri=uri, fields={"user-agent": agent}))
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert set(found) >= {"time", "status", "uri", "user_agent"}
    assert found["status"] == 200
    assert found["uri"] == as_bytes(uri).decode("utf-8", "backslashreplace")
    assert found["user_agent"] == as_bytes(agent).decode("utf-8", "backslashreplace")


@given(NASTY, NASTY)
def test_nobody_forges_a_line_with_tabs(uri: str, agent: str) -> None:
    line = line_of("$status\t$uri\t$http_user_agent", Subject(uri=uri, fields={"user-agent": agent}))
    fields = line.split("\t")
    assert len(fields) == 3
    assert "\n" not in line
    assert unescape(fields[1]) == as_bytes(uri or "-")
    assert unescape(fields[2]) == as_bytes(agent or "-")


@given(st.text())
def test_plain_keeps_languages_and_nothing_that_acts(text: str) -> None:
    assert plain(text).isprintable()
    if text.isprintable():
        assert plain(text) == text


def test_plain() -> None:
    assert plain("größer\nals\x1b[0m") == r"größer\x0Aals\x1B[0m"


def test_json_escape() -> None:
    assert json_escape('a"b\n\udcff é') == r"a\"b\n\\xff \u00e9"


# --- time


def test_stamps(monkeypatch: Any) -> None:
    monkeypatch.setenv("TZ", "America/St_Johns")
    time.tzset()
    try:
        stamps = Stamps()
        stamps.tick(1_795_384_800.9)
        assert stamps.local == "22/Nov/2026:18:30:00 -0330"
        assert stamps.iso == "2026-11-22T18:30:00-03:30"
        assert (stamps.begin, stamps.end) == (1_795_384_800, 1_795_384_801)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_time_goes_on_and_back(monkeypatch: Any) -> None:
    stamps = Stamps()
    seen = []
    sink = Sink(NoWriter())
    sink.closed, sink.limit = False, 1 << 30
    for now in (1_795_384_800.0, 1_795_384_800.9, 1_795_384_801.0, 1_795_381_200.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        compile_recorder("$time_iso8601", SCOPE, sink, stamps, raises)(Subject())
        sink.settle()
        seen.append(sink.lines[-1])
    assert seen[0] == seen[1]
    assert len(set(seen)) == 3
