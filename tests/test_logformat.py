"""Lines of logs: what they look like, and that nobody can forge one."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from time import monotonic
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
    (line,) = lines_of(text, [subject or Subject()], scope, stamps)
    return line


def lines_of(
    text: str,
    subjects: list[Any],
    scope: Scope = SCOPE,
    stamps: Stamps | None = None,
    failed: Callable[[Exception], None] = raises,
) -> list[str]:
    """The lines that a format makes of subjects together."""
    sink = opened()
    record = compile_recorder(text, scope, sink, stamps or Stamps(), failed)
    for subject in subjects:
        record(subject)
    sink.settle()
    lines, pending = sink.lines[:], sink.pending
    sink.close(monotonic())
    assert pending == sum(map(len, lines))
    assert all(line.endswith(b"\n") for line in lines)
    return [line[:-1].decode("utf-8") for line in lines]


def opened() -> Sink:
    """A sink that writes nowhere, and not soon."""
    sink = Sink(NoWriter(), interval=60)
    sink.open()
    return sink


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
    assert lines_of("$bad", [Subject()], failed=failures.append) == []
    (failure,) = failures
    assert isinstance(failure, AttributeError)


def test_who_raises_loses_only_its_own_line() -> None:
    failures: list[Exception] = []
    subjects = [Subject(status=number) for number in range(10)]
    subjects[3].uri = '"'
    del subjects[4].uri, subjects[7].method
    lines = lines_of('$status "$request"', subjects, failed=failures.append)
    assert [line.partition(" ")[0] for line in lines] == ["0", "1", "2", "3", "5", "6", "8", "9"]
    assert lines[3] == r'3 "GET \x22 HTTP/1.1"'
    assert [type(failure) for failure in failures] == [AttributeError, AttributeError]


def test_one_python_call_a_line() -> None:
    sink = opened()
    record = compile_recorder("combined", SCOPE, sink, Stamps(), raises)
    subject = Subject()
    record(subject)  # the first one of many turns to its render
    calls: list[str] = []
    sys.setprofile(lambda frame, event, arg: calls.append(frame.f_code.co_name) if event == "call" else None)
    for _ in range(10):
        record(subject)
    sys.setprofile(None)
    assert calls == ["record"] * 10
    sink.close(monotonic())


def test_two_python_calls_for_many_lines() -> None:
    sink = opened()
    record = compile_recorder("combined", SCOPE, sink, Stamps(), raises)
    for _ in range(40):
        record(Subject())
    calls: list[str] = []
    sys.setprofile(lambda frame, event, arg: calls.append(frame.f_code.co_name) if event == "call" else None)
    sink.settle()
    sys.setprofile(None)
    assert [name for name in calls if name not in ("tick", "<genexpr>", "<listcomp>", "press")] == [
        "settle",
        "render",
    ]
    assert len(sink.lines) == 40
    sink.close(monotonic())


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


@given(st.lists(st.tuples(NASTY, NASTY), max_size=8))
def test_nobody_forges_a_line_among_others(values: list[tuple[str, str]]) -> None:
    """What one brings too much, no other may bring too little."""
    subjects = [Subject(status=number, user=user, uri=uri) for number, (user, uri) in enumerate(values)]
    users = [escape(user).replace(" ", "\\x20") or "-" for user, _ in values]
    assert lines_of('$status $user "$uri"', subjects) == [
        f'{number} {users[number]} "{escape(uri) or "-"}"' for number, (_, uri) in enumerate(values)
    ]


def test_a_line_that_is_lost_covers_no_other_that_is_forged() -> None:
    """The check of many lines counts: one that is left out must not make room for a newline and two quotes."""
    forging = Subject(uri='x"\n200 "/forged')
    broken = Subject()
    del broken.uri
    for subjects in ([broken, forging], [forging, broken], [broken, forging, Subject()]):
        lines = lines_of('$status "$uri"', subjects, failed=lambda error: None)
        assert lines == [r'200 "x\x22\x0A200 \x22/forged"', '200 "/a?b=c"'][: len(subjects) - 1]


def test_a_format_of_several_lines_is_one_line_of_the_queue() -> None:
    assert lines_of("$status\n\r\n$uri", [Subject(), Subject(uri="\n")]) == [
        "200\n\r\n/a?b=c",
        "200\n\r\n\\x0A",
    ]


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
    sink = opened()
    for now in (1_795_384_800.0, 1_795_384_800.9, 1_795_384_801.0, 1_795_381_200.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        compile_recorder("$time_iso8601", SCOPE, sink, stamps, raises)(Subject())
        sink.settle()
        seen.append(sink.lines[-1])
    sink.close(monotonic())
    assert seen[0] == seen[1]
    assert len(set(seen)) == 3
