"""The $variables that conditions, templates and log formats of the web may use.

Each is a Python expression of its subject: a `Request` for rules and values, a `Response` for log formats.
"""

from __future__ import annotations

from hemi.conditions import Scope

_REQUEST = {
    "method": "{r}.method",
    "scheme": "{r}.scheme",
    "authority": "{r}.authority",
    "hostname": "{r}.hostname",
    "port": "str({r}.port)",
    "path": "{r}.path",
    "uri": "{r}.uri()",
    "encoded_path": "{r}.raw_path.decode('latin-1')",
    "query_string": "{r}.query_string",
    "content_type": "{r}.media_type()",
    "src_host": "{r}.src_host",
    "src_port": "str({r}.src_port)",
    "tls": "('on' if {r}.tls else 'off')",
    "tls_version": "{r}.tls_text('version')",
    "tls_cipher": "{r}.tls_text('cipher')",
    "server_name": "{r}.tls_text('server_name')",
    "client_subject": "{r}.tls_text('client_subject')",
    "version": "{r}.version_text()",
    "user": "({r}.auth_user or ({r}.user() if b'authorization' in {r}.index else ''))",
    "webapp": "({r}.webapp.name if {r}.webapp is not None else '')",
}

_PREFIXES = {
    "header_": "({r}.index[b{{name!r}}].decode('utf-8', 'surrogateescape') if b{{name!r}} in {r}.index else '')",
    "cookie_": "{r}.cookie_text({{name!r}})",
    "query_": "{r}.query_text({{name!r}})",
}

_NGINX = {
    # nginx's names for the same things: formats are often brought along
    "remote_addr": "{r}.src_host",
    "remote_port": "str({r}.src_port)",
    "remote_user": "({r}.auth_user or ({r}.user() if b'authorization' in {r}.index else ''))",
    "host": "{r}.hostname",
    "request_method": "{r}.method",
    "request_uri": "{r}.uri()",
    "http_referer": _PREFIXES["header_"].replace("{{name!r}}", "'referer'"),
    "http_user_agent": _PREFIXES["header_"].replace("{{name!r}}", "'user-agent'"),
    "server_protocol": "'HTTP/' + {r}.version_text()",
}


def _bind(table: dict[str, str], subject: str) -> dict[str, str]:
    return {name: expression.format(r=subject) for name, expression in table.items()}


REQUEST_SCOPE = Scope(
    "request",
    variables=_bind(_REQUEST, "s"),
    prefixes=_bind(_PREFIXES, "s"),
    networks=frozenset({"src_host"}),
    file_tests="s.file_path()",
)

LOG_SCOPE = Scope(
    "log",
    variables={
        **_bind(_REQUEST, "s.request"),
        **_bind(_NGINX, "s.request"),
        # `Request.line`, written out for the version that is nearly all of them
        "request": "(s.request.method + ' ' + s.request.target.decode('latin-1') + ' HTTP/1.1'"
        " if s.request.version == 11 and s.request.method else s.request.line())",
        "status": "str(s.status)",
        "bytes_sent": "str(s.bytes_sent)",
        "body_bytes_sent": "str(s.bytes_sent)",
        "bytes_received": "str(s.request.received)",
        "request_time": "s.elapsed()",
        "content_encoding": "s.header_text('content-encoding')",
    },
    prefixes={**_bind(_PREFIXES, "s.request"), "sent_": "s.header_text({name!r})"},
    networks=frozenset({"src_host"}),
    dashed=frozenset({"header_", "sent_"}),
)
