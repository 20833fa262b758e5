"""The $variables that conditions and templates of cases, and log formats of routers, may use.

Each is a Python expression of its subject, a `TCPXConn`, or a `UDPXConn` where datagrams are routed.
"""

from __future__ import annotations

from hemi.conditions import Scope

_KNOWN = {
    "src_host": "s.src_host",
    "src_port": "str(s.src_port)",
    "dst_host": "s.dst[0]",
    "dst_port": "str(s.dst[1])",
    "uds": "('on' if s.is_uds else 'off')",
}

_TIME = {
    "time": "s.local('%H:%M')",
    "date": "s.local('%Y-%m-%d')",
    "weekday": "s.local('%a').lower()",
}
"""The local time: 22:05, 2026-07-01, mon."""

_TLS = {
    "tls_version": "s.tls_text('version')",
    "tls_cipher": "s.tls_text('cipher')",
    "client_subject": "s.tls_text('client_subject')",
}
"""Of TLS that ends here."""

CASE_SCOPE = Scope(
    "case",
    # The client's first bytes are only waited for when somebody asks: in many protocols the server speaks first.
    variables={
        **_KNOWN,
        **_TIME,
        "tls": "('on' if s.inspect().is_tls else 'off')",
        "server_name": "s.inspect().server_name",
        "next_proto": "s.inspect().next_proto",
        **_TLS,
    },
    networks=frozenset({"src_host", "dst_host"}),
    times=frozenset({"time"}),
)

LOG_SCOPE = Scope(
    "connection log",
    variables={
        **_KNOWN,
        "tls": "('on' if s.is_tls else 'off')",
        "server_name": "s.server_name",
        "next_proto": "s.next_proto",
        **_TLS,
        "router": "s.owner.name",
        "case": "str(s.case_number or '-')",
        "backend": "s.backend",
        "node": "s.node",
        "status": "str(s.status)",
        "reason": "s.reason",
        "bytes_received": "str(s.bytes_received)",
        "bytes_sent": "str(s.bytes_sent)",
        "request_time": "s.elapsed()",
        # what the formats "combined" and "common" have
        "request": "s.line()",
        "body_bytes_sent": "str(s.bytes_sent)",
    },
    networks=frozenset({"src_host", "dst_host"}),
)

UDP_CASE_SCOPE = Scope(
    "datagram case",
    variables={**_KNOWN, **_TIME, "size": "str(s.size)", "first_bytes": "s.first_bytes.hex()"},
    networks=frozenset({"src_host", "dst_host"}),
    times=frozenset({"time"}),
)

UDP_LOG_SCOPE = Scope(
    "session log",
    variables={
        **_KNOWN,
        **{
            name: LOG_SCOPE.variables[name]
            for name in ("router", "case", "backend", "node", "status", "reason")
        },
        **{name: LOG_SCOPE.variables[name] for name in ("bytes_received", "bytes_sent", "body_bytes_sent")},
        **{name: LOG_SCOPE.variables[name] for name in ("request", "request_time")},
        "datagrams_received": "str(s.datagrams_received)",
        "datagrams_sent": "str(s.datagrams_sent)",
    },
    networks=frozenset({"src_host", "dst_host"}),
)
