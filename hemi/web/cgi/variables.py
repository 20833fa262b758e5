"""The variables that a request is to CGI programs and WSGI apps (RFC 3875 §4.1), as text with one character a byte.

- Fields whose names have an underscore are dropped: X-User and X_User would both be HTTP_X_USER, and a proxy that
  guards the one lets the other pass (as nginx and gunicorn do). So is Proxy: HTTP_PROXY is what CGI-minded libraries
  take their proxy from ("httpoxy", CVE-2016-5385).
- Paths are those that the rules saw: decoded once and normalised. The target as it came is REQUEST_URI.
- No value has a NUL: it would end an environment variable early, and begin another variable in SCGI.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hemi import __version__
from hemi.peers import plain_host

if TYPE_CHECKING:
    from hemi.tls import TLSInfo
    from hemi.web.request import Request

__all__ = [
    "PROTOCOLS",
    "Encoder",
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

KNOWN_PARTS = 2048
KNOWN_SIZE = 4096
"""How many parts of requests an encoder remembers, of each kind, and how large ones in bytes."""

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
    """Makes the variables of requests to one gateway, as parts that are the same again and again: of the fields, of the
    script, of the client. `extras` are (name, template) pairs; they count more than all else."""

    __slots__ = ("_base", "_constants", "_names", "_root", "_templates")

    def __init__(self, root: str, extras: tuple[tuple[str, Any], ...] = ()) -> None:
        self._root = as_latin1(root.rstrip("/"))
        self._names = frozenset(name for name, _ in extras)
        self._constants = {name: _text(one.constant) for name, one in extras if one.constant is not None}
        self._templates = tuple((name, one) for name, one in extras if one.constant is None)
        self._base = {
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_SOFTWARE": f"gorox/{__version__}",
            "REDIRECT_STATUS": "200",  # php-cgi wants to know that a web server has called it
        }
        if root:
            self._base["DOCUMENT_ROOT"] = as_latin1(root)

    def make(self, req: Request, script: Script, size: int) -> dict[str, str]:
        """The variables of a request with a content of `size` bytes, -1 when nobody knows."""
        variables = self.of_fields(req)
        variables.update(self.of_script(req, script))
        variables.update(self.of_client(req))
        variables.update(self.of_request(req, size))
        return variables

    def of_fields(self, req: Request) -> dict[str, str]:
        """What follows from the fields, scheme, host, version and user of a request."""
        variables = self._base.copy()
        add_fields(variables, req.index)
        variables.pop("CONTENT_LENGTH", None)
        variables["REQUEST_SCHEME"] = req.scheme
        variables["SERVER_NAME"] = req.hostname or "localhost"
        variables["SERVER_PORT"] = str(req.port)
        variables["SERVER_PROTOCOL"] = PROTOCOLS[req.version]
        if req.auth_user:
            variables["REMOTE_USER"] = _text(req.auth_user)
            variables["AUTH_TYPE"] = req.header_text("authorization").partition(" ")[0] or "Basic"
        if req.scheme == "https":
            variables["HTTPS"] = "on"
        variables.update(self._constants)
        return self._without_extras(variables, self._constants)

    def of_script(self, req: Request, script: Script) -> dict[str, str]:
        """What follows from method, target and script."""
        name, info = as_latin1(script.name), as_latin1(script.info)
        variables = {
            "REQUEST_METHOD": req.method,
            "REQUEST_URI": _origin_form(req.target).decode("latin-1"),
            "DOCUMENT_URI": name + info,
            "SCRIPT_NAME": name,
            "PATH_INFO": info,
            "QUERY_STRING": as_latin1(req.query_string),
        }
        if script.file:
            variables["SCRIPT_FILENAME"] = as_latin1(script.file)
        if info and self._root:
            variables["PATH_TRANSLATED"] = self._root + info
        return self._without_extras(variables)

    def of_client(self, req: Request) -> dict[str, str]:
        """What follows from the client and its connection."""
        is_local = req.src_host.startswith("unix:")
        variables = {
            "REMOTE_ADDR": "127.0.0.1" if is_local else req.src_host,  # programs parse it as an address
            "REMOTE_PORT": str(req.src_port),
        }
        address = server_address(req)
        if address:
            variables["SERVER_ADDR"] = address
        if req.tls is not None:
            add_tls(variables, req.tls)
        return self._without_extras(variables)

    def of_request(self, req: Request, size: int) -> dict[str, str]:
        """What is another for each request."""
        variables = {}
        index = req.index
        if size > 0 or (size == 0 and (b"content-length" in index or b"transfer-encoding" in index)):
            variables["CONTENT_LENGTH"] = str(size)
            variables = self._without_extras(variables)
        for name, template in self._templates:
            variables[name] = _text(template(req))
        return variables

    def _without_extras(self, variables: dict[str, str], but: Container[str] = ()) -> dict[str, str]:
        for name in self._names:
            if name not in but:
                variables.pop(name, None)
        return variables


class Encoder:
    """Makes the variables as a protocol writes them, and remembers their parts. `encode` turns pairs into bytes that
    can be put one behind the other."""

    __slots__ = ("_clients", "_encode", "_fields", "_scripts", "_variables")

    def __init__(self, variables: Variables, encode: Callable[[list[tuple[bytes, bytes]]], bytes]) -> None:
        self._variables = variables
        self._encode = encode
        self._fields: dict[Any, tuple[Any, bytes]] = {}
        self._scripts: dict[Any, tuple[Any, bytes]] = {}
        self._clients: dict[Any, tuple[Any, bytes]] = {}

    def __repr__(self) -> str:
        return (
            f"<Encoder fields={len(self._fields)} scripts={len(self._scripts)} clients={len(self._clients)}>"
        )

    def make(self, req: Request, script: Script, size: int) -> bytes:
        """The variables of a request with a content of `size` bytes, -1 when nobody knows. Raises ValueError for what
        the protocol cannot say."""
        # What is remembered by its identity is kept, so that nothing else can have the same.
        fields = req.fields
        key: Any = (id(fields), req.scheme, req.hostname, req.port, req.version, req.auth_user)
        known = self._fields.get(key)
        if known is None or known[0] is not fields:
            is_shared = fields.__class__ is tuple
            known = self._learn(self._fields, key, fields, self._variables.of_fields(req), is_shared)
        block = known[1]
        key = (req.method, req.target, req.query_string, script)
        known = self._scripts.get(key)
        if known is None:
            known = self._learn(self._scripts, key, None, self._variables.of_script(req, script))
        block += known[1]
        peer = req.stream.conn.peer
        key = (id(peer), req.src_host, req.src_port)
        known = self._clients.get(key)
        if known is None or known[0] is not peer:
            known = self._learn(self._clients, key, peer, self._variables.of_client(req))
        block += known[1]
        rest = self._variables.of_request(req, size)
        return block + self._join(rest) if rest else block

    def _join(self, variables: dict[str, str]) -> bytes:
        return self._encode(
            [(name.encode("latin-1"), value.encode("latin-1")) for name, value in variables.items()]
        )

    def _learn(
        self,
        memory: dict[Any, tuple[Any, bytes]],
        key: Any,
        owner: Any,
        variables: dict[str, str],
        is_shared: bool = True,
    ) -> tuple[Any, bytes]:
        known = (owner, self._join(variables))
        if is_shared and len(known[1]) <= KNOWN_SIZE:
            if len(memory) >= KNOWN_PARTS:
                memory.clear()
            memory[key] = known
        return known


def _text(text: str) -> str:
    return as_latin1(text).replace("\0", "")


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
