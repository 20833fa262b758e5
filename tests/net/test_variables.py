"""The variables: of cases, which may look at the client's first bytes, and of logs, which never do."""

from __future__ import annotations

from time import strftime

import pytest

from hemi.conditions import ConditionError, compile_condition, compile_template
from hemi.net.variables import CASE_SCOPE, LOG_SCOPE, UDP_CASE_SCOPE
from tests.net.test_conn import conn_of, hello


def test_of_cases() -> None:
    text = "$src_host $src_port $dst_host $dst_port $uds $tls $server_name $next_proto"
    conn = conn_of(hello("a.example", "h2"))
    assert compile_template(text, CASE_SCOPE)(conn) == "192.0.2.1 1234 127.0.0.1 5432 off on a.example h2"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('$src_host in "192.0.2.0/24"', True),
        ('$dst_host in "10.0.0.0/8"', False),
        ("$dst_port == (5432, 5433)", True),
        ('$server_name $= ".example"', True),
        ('$tls == "on" and $next_proto *= "h2"', True),
        ('$uds == "on"', False),
    ],
)
def test_conditions(text: str, holds: bool) -> None:
    assert compile_condition(text, CASE_SCOPE)(conn_of(hello("a.example", "h2"))) is holds


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('$time in "08:00-18:00"', True),
        ('$time in ("18:00-08:00", "00:00-09:05")', False),
        ('$time in "22:00-09:06"', True),
        ('$time not in "09:05-24:00"', False),
        ('$weekday == ("sat", "sun") or $date ^= "2026-07-"', True),
        ('$weekday == "wed" and $time ^= "09:"', True),
    ],
)
def test_times(text: str, holds: bool) -> None:
    class AtNine:
        def local(self, form: str) -> str:
            return strftime(form, (2026, 7, 1, 9, 5, 59, 2, 182, 0))

    for scope in (CASE_SCOPE, UDP_CASE_SCOPE):
        assert compile_condition(text, scope)(AtNine()) is holds


@pytest.mark.parametrize("text", ['$time in "8:00-9:00"', '$time in "08:00-08:00"', '$time in "10.0.0.0/8"'])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(ConditionError, match="is not a range of times such as 08:00-18:00"):
        compile_condition(text, CASE_SCOPE)


def test_the_time_of_connections() -> None:
    assert compile_condition('$time in "00:00-24:00" and $date ^= "20"', CASE_SCOPE)(conn_of())


def test_variables_that_are_not_there() -> None:
    with pytest.raises(ConditionError, match=r"there is no variable \$path"):
        compile_condition('$path == "/"', CASE_SCOPE)


def test_only_who_asks_waits_for_the_hello() -> None:
    conn = conn_of(hello())
    assert compile_condition("$dst_port == 5432", CASE_SCOPE)(conn)
    assert conn.taken() == b""


def test_of_logs() -> None:
    conn = conn_of(hello())
    conn.backend, conn.node, conn.case_number, conn.bytes_sent, conn.bytes_received = "pg", "n:1", 2, 7, 5
    text = "$router $case $backend $node $status $bytes_received $bytes_sent [$reason] $tls $request_time"
    line = compile_template(text, LOG_SCOPE)(conn)
    assert line.startswith("db 2 pg n:1 200 5 7 [] off 0.0")
    assert conn.taken() == b""  # nothing was read for it
