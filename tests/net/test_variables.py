"""The variables: of cases, which may look at the client's first bytes, and of logs, which never do."""

from __future__ import annotations

import pytest

from hemi.conditions import ConditionError, compile_condition, compile_template
from hemi.net.variables import CASE_SCOPE, LOG_SCOPE
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
