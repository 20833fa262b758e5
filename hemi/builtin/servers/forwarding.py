"""What forward proxies have in common, whatever they are asked by: users, rules, dialling, relaying, logs.

A server of this kind reads what its client wants (`user`, `host` and `port` of the connection), has `dial` judge that
by the rules and connect, tells the client in the words of its protocol, and has `relay` carry the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

from hemi.component import prop
from hemi.conditions import Scope
from hemi.net.conn import TCPXConn
from hemi.net.listening import TCPXListening
from hemi.net.rules import ForwardRule, Permit, Rules, Wish
from hemi.net.variables import LOG_SCOPE
from hemi.passwords import Passwords, PutOff
from hemi.server import Server
from hemi.upstream.dial import Dialed, dial
from hemi.upstream.errors import DialFailed, reason_of
from hemi.values import Addr, Children, Duration

__all__ = ["FORWARD_SCOPE", "ForwardConn", "Forwarding", "NotAllowed", "own_address"]


class NotAllowed(Exception):
    """The rules say no, and why is told to the log alone: a client could map our network with it."""


class ForwardConn(TCPXConn):
    """A client of a forward proxy. `user` is "" for nobody; `command` is what it asked for, "" as long as nothing."""

    __slots__ = ("command", "host", "port", "user")

    def __init__(self, *arguments: object) -> None:
        TCPXConn.__init__(self, *arguments)  # type: ignore[arg-type]
        self.user = ""
        self.command = ""
        self.host = ""
        self.port = 0

    @property
    def peer(self) -> str:
        """The client, for the error log."""
        return f"{self.src_host}:{self.src_port}" if self.src_port else self.src_host

    @property
    def target(self) -> str:
        """Where the client wants to get to."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def line(self) -> str:
        """What was asked for, in a few words: `CONNECT example.com:443`."""
        return f"{self.command} {self.target}" if self.command else super().line()


FORWARD_SCOPE = Scope(
    "forward proxy log",
    variables={
        **{name: code for name, code in LOG_SCOPE.variables.items() if name not in ("router", "case", "backend")},
        "server": "s.owner.name",
        "user": "s.user",
        "method": "s.command",
        "hostname": "s.host",
        "port": "str(s.port)",
    },
    networks=LOG_SCOPE.networks,
)  # fmt: skip


class Forwarding(Passwords, TCPXListening, Server):
    """The base of forward proxies. Nothing is allowed that `allow` does not allow."""

    allow: Children[ForwardRule] = prop([], "Who may go where. Nobody may go anywhere else.", inherit=False)
    deny: Children[ForwardRule] = prop([], "Who may not, although a rule of `allow` says so.", inherit=False)

    request_timeout: Duration = prop(
        "10s", "How long a client may take to say who it is and what it wants.", least="100ms"
    )
    connect_timeout: Duration = prop(
        "10s", "How long it may take to resolve a name and to connect.", least="100ms"
    )
    idle_timeout: Duration = prop("5m", "How long nothing may move in either direction.", least="100ms")
    max_lifetime: Duration = prop("1d", "How long a relay may last.", least="1s", inherit=False)

    conn_class = ForwardConn
    log_scope = FORWARD_SCOPE

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Rules must speak of users that can be known."""
        yield from TCPXListening.check(self)
        yield from Passwords.check(self)
        if not self.has_users and any(rule.users for rule in (*self.allow, *self.deny)):
            yield "must have users or a users_file: a rule names users"

    def prepare(self) -> None:
        """Reads the users, takes the addresses. Raises EnvError or UsageError."""
        Passwords.prepare(self)
        self.rules = Rules(self.allow, self.deny)
        TCPXListening.prepare(self)

    def stop(self, deadline: float) -> None:
        """Lets relays end until `deadline`, cuts the rest, lets the threads go."""
        TCPXListening.stop(self, deadline)
        Passwords.stop(self, deadline)

    def tell(self, conn: ForwardConn, status: int, reason: str) -> None:
        """Notes in the error log, and for the access log, what came of a client's wish."""
        conn.refuse(status, reason)
        at = f" at {conn.target}" if conn.host else ""
        self.stage.log.info("forward", f"{self.label}: {conn.peer}{at}: {reason}")

    # What clients want

    def is_user(self, conn: ForwardConn, user: str, password: bytes) -> bool:
        """Tells whether this is the password of this user, who is the connection's then."""
        try:
            right = self.knows(user, password, conn.src_host)
        except PutOff as error:
            self.tell(conn, 429 if error.is_guessing else 503, str(error))
            return False
        if right:
            conn.user = user
        else:
            self.tell(conn, 407, f"wrong password for {user[:80]!r}")
        return right

    def permit(self, conn: ForwardConn, host: str, port: int) -> Permit:
        """What judges the addresses of a host that a client wants to get to. Raises NotAllowed."""
        permit = self.rules.permit(Wish(conn.user, conn.src_host, host, port))
        if permit is None:
            raise NotAllowed("no rule allows it")
        return permit

    def addresses_of(self, conn: ForwardConn, host: str, port: int) -> list[str]:
        """The addresses of a host that a client may get to; waits for the resolver. Raises NotAllowed, ResolveError."""
        permit = self.permit(conn, host, port)
        found = [
            address
            for address in self.stage.resolv.lookup(host, timeout=self.connect_timeout)
            if permit(address)
        ]
        if not found:
            raise NotAllowed(f"no rule allows its address {permit.refused}")
        return found

    def dial(self, conn: ForwardConn) -> Dialed:
        """Connects to where the client wants to get to, if it may. Raises NotAllowed, DialFailed."""
        permit = self.permit(conn, conn.host, conn.port)
        try:
            node = dial(
                Addr(conn.host, conn.port),
                self.stage.resolv,
                timeout=self.connect_timeout,
                write_timeout=self.write_timeout,
                permit=permit,
            )
        except DialFailed as error:
            if permit.refused and error.phase == "resolve":
                raise NotAllowed(f"no rule allows its address {permit.refused}") from None
            raise
        self.adopt(conn, node)
        return node

    def adopt(self, conn: ForwardConn, node: Dialed) -> None:
        """Has a connection to a node end with the client's. Raises DialFailed."""
        conn.watch(node)
        conn.at_end(lambda: conn.unwatch(node))
        conn.at_end(node.close)
        try:
            host, port = node.sock.getpeername()[:2]
        except OSError as error:  # it was there, and has gone already
            raise DialFailed(reason_of(error), node=conn.target, phase="connect") from None
        conn.node = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def relay(self, conn: ForwardConn, node: Dialed, first: bytes) -> None:
        """Carries bytes both ways, `first` of them to the node, until both sides have ended or the time is over."""
        conn.relay(node, first, self.idle_timeout, monotonic() + self.max_lifetime)


def own_address(node: Dialed) -> tuple[str, int]:
    """Host and port of our end of a connection."""
    host, port = node.sock.getsockname()[:2]
    return str(host), int(port)
