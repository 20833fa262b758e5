"""The variables that a request is to CGI programs and WSGI apps (RFC 3875 §4.1), as text with one character a byte.

- Fields whose names have an underscore are dropped: X-User and X_User would both be HTTP_X_USER, and a proxy that
  guards the one lets the other pass (as nginx and gunicorn do). So is Proxy: HTTP_PROXY is what CGI-minded libraries
  take their proxy from ("httpoxy", CVE-2016-5385).
- Paths are those that the rules saw: decoded once and normalised. The target as it came is REQUEST_URI.
- No value has a NUL: it would end an environment variable early, and begin another variable in SCGI.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hemi import __version__
from hemi.peers import plain_host

if TYPE_CHECKING:
    from hemi.tls import TLSInfo
    from hemi.web.request import Request

__all__ = [
    "PROTOCOLS",
    "Script",
    "Variables",
    "add_fields",
    "add_tls",
    "as_latin1",
    "check_script_name",
    "mounted",
    "variable_of",
]

MAX_NAMES = 1024
"""How many field names are remembered; clients may send any, so it must be bounded."""

PROTOCOLS = {10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2", 30: "HTTP/3"}

_names: dict[bytes, str] = {
    b"content-type": "CONTENT_TYPE",
    b"content-length": "CONTENT_LENGTH",
    b"proxy": "",
}


def variable_of(name: bytes) -> str:
    """The variable of a field name, in lower case as it came; "" when there must be none."""
    variable = _names.get(name)
    if variable is None:
        variable = "" if b"_" in name else "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        if len(_names) < MAX_NAMES:
            _names[name] = variable
    return variable


def add_fields(variables: dict[str, Any], index: Mapping[bytes, bytes]) -> None:
    """Adds the fields of a request under their variables."""
    known = _names
    for name, value in index.items():
        variable = known.get(name)
        if variable is None:
            variable = variable_of(name)
        if variable:
            variables[variable] = value.decode("latin-1")


def as_latin1(text: str) -> str:
    """Text as PEP 3333 wants it: its UTF-8 bytes, each as the character of that number."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def add_tls(variables: dict[str, Any], info: TLSInfo) -> None:
    """Adds what TLS agreed on, and the client's certificate, under the names that mod_ssl made known."""
    variables["SSL_PROTOCOL"] = info.version
    variables["SSL_CIPHER"] = info.cipher
    variables["SSL_TLS_SNI"] = info.server_name
    certificate = info.certificate
    if certificate is None:
        variables["SSL_CLIENT_VERIFY"] = "NONE"
        return
    variables["SSL_CLIENT_VERIFY"] = "SUCCESS"
    variables["SSL_CLIENT_S_DN"] = as_latin1(certificate.subject)
    variables["SSL_CLIENT_I_DN"] = as_latin1(certificate.issuer)
    variables["SSL_CLIENT_M_SERIAL"] = certificate.serial
    variables["SSL_CLIENT_FINGERPRINT"] = certificate.fingerprint
    variables["SSL_CLIENT_CERT"] = certificate.pem


class Script(NamedTuple):
    """What a path comes to: the part of it that names the script, the rest, and the script's file, "" for none."""

    name: str
    info: str
    file: str = ""


def mounted(path: str, name: str) -> Script | None:
    """A path below the place where an app is mounted; None for others."""
    if path != name and not path.startswith(name + "/"):
        return None
    return Script(name, path[len(name) :])


def check_script_name(name: str | None) -> Iterator[tuple[str, str]]:
    """What is wrong with a place to mount."""
    if name and (name[0] != "/" or name[-1] == "/" or "//" in name):
        yield "script_name", f'must be "" or a path like "/shop", not "{name}"'


class Variables:
    """Makes the variables of requests to one gateway. `extras` are (name, template) pairs."""

    __slots__ = ("_base", "_extras", "_root")

    def __init__(self, root: str, extras: tuple[tuple[str, Any], ...] = ()) -> None:
        self._root = as_latin1(root.rstrip("/"))
        self._extras = extras
        self._base = {
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_SOFTWARE": f"gorox/{__version__}",
            "REDIRECT_STATUS": "200",  # php-cgi wants to know that a web server has called it
            "QUERY_STRING": "",
        }
        if root:
            self._base["DOCUMENT_ROOT"] = as_latin1(root)

    def make(self, req: Request, script: Script, size: int) -> dict[str, str]:
        """The variables of a request with a content of `size` bytes, -1 when nobody knows."""
        variables = self._base.copy()
        add_fields(variables, req.index)
        variables.pop("CONTENT_LENGTH", None)
        if size > 0 or (size == 0 and (b"content-length" in req.index or b"transfer-encoding" in req.index)):
            variables["CONTENT_LENGTH"] = str(size)
        name, info = as_latin1(script.name), as_latin1(script.info)
        variables["REQUEST_METHOD"] = req.method
        variables["REQUEST_SCHEME"] = req.scheme
        variables["REQUEST_URI"] = _origin_form(req.target).decode("latin-1")
        variables["DOCUMENT_URI"] = name + info
        variables["SCRIPT_NAME"] = name
        if script.file:
            variables["SCRIPT_FILENAME"] = as_latin1(script.file)
        variables["PATH_INFO"] = info
        if info and self._root:
            variables["PATH_TRANSLATED"] = self._root + info
        if req.query_string:
            variables["QUERY_STRING"] = as_latin1(req.query_string)
        variables["SERVER_NAME"] = req.hostname or "localhost"
        variables["SERVER_PORT"] = str(req.port)
        variables["SERVER_PROTOCOL"] = PROTOCOLS[req.version]
        address = server_address(req)
        if address:
            variables["SERVER_ADDR"] = address
        is_local = req.src_host.startswith("unix:")
        variables["REMOTE_ADDR"] = (
            "127.0.0.1" if is_local else req.src_host
        )  # programs parse it as an address
        variables["REMOTE_PORT"] = str(req.src_port)
        if req.auth_user:
            variables["REMOTE_USER"] = as_latin1(req.auth_user).replace("\0", "")
            variables["AUTH_TYPE"] = req.header_text("authorization").partition(" ")[0] or "Basic"
        if req.scheme == "https":
            variables["HTTPS"] = "on"
        if req.tls is not None:
            add_tls(variables, req.tls)
        for key, template in self._extras:
            variables[key] = as_latin1(template(req)).replace("\0", "")
        return variables


def _origin_form(target: bytes) -> bytes:
    """The target without scheme and authority, if it came with them (RFC 9112 §3.2)."""
    if target[:1] == b"/" or b"://" not in target:
        return target
    rest = target.partition(b"://")[2]
    at = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    return rest[at:] if rest[at : at + 1] == b"/" else b"/" + rest[at:]


def server_address(req: Request) -> str:
    """The address that the client has connected to, "" for a Unix domain socket and a connection that has ended."""
    try:
        name = req.stream.conn.channel.sock.getsockname()
    except (AttributeError, OSError):
        return ""
    if not isinstance(name, tuple):
        return ""
    return plain_host(name[0])
