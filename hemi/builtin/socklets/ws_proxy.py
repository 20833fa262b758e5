"""The socklet `ws_proxy`: passes WebSockets on to the servers of a backend, whatever they say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from hemi.builtin.backends.http_backend import HTTPBackend
from hemi.component import prop
from hemi.values import Duration, Ref, Template
from hemi.web.errors import HTTPError
from hemi.web.fields import check_value, is_token
from hemi.web.proxy.forward import Forward
from hemi.web.proxy.requests import Mode, RequestHead, RequestRules
from hemi.web.proxy.responses import ResponseHead, ResponseRules
from hemi.web.proxy.retries import IDEMPOTENT, Budget, Retries
from hemi.web.socklet import Socklet
from hemi.web.websocket.handshake import check, is_upgrade, may_open, upgrade_required

if TYPE_CHECKING:
    from hemi.web.proxy.mirror import Mirror
    from hemi.web.request import Request
    from hemi.web.response import Response


class WSProxy(Socklet, sign="ws_proxy"):
    """Passes WebSockets on to the servers of a backend, between any two versions of HTTP.

    The handshake is checked here and answered by the node; what follows are bytes, which nobody looks at on the way:
    the properties about messages, pings and compression say nothing here. What is no WebSocket never reaches a node.
    """

    to_backend: Ref[HTTPBackend] = prop(doc="The servers.")
    host: Template | None = prop(None, "What Host says to the nodes; the client's when missing.")
    strip_prefix: str = prop("", "A beginning of paths that is taken off before they go to a node.")
    add_prefix: str = prop("", "What is put in front of paths then.")
    x_forwarded: Literal["append", "set", "off"] = prop(
        "append", "X-Forwarded-For, -Proto, -Host, -Port: as those of http_proxy."
    )
    forwarded: Literal["append", "set", "off"] = prop("off", "The same for Forwarded (RFC 7239).")
    x_real_ip: bool = prop(False, "Tell nodes the client's address in X-Real-IP.")
    via: str = prop("gorox", "The name for Via, both ways; no Via when empty.")
    head_timeout: Duration = prop(
        "60s", "How long a node may take to answer the handshake, each try.", least="10ms"
    )
    tunnel_timeout: Duration = prop("10m", "How long a WebSocket may be silent.", least="10ms")
    max_retries: int = prop(2, "How many other nodes to try when one cannot be reached.", least=0, most=20)
    sticky_cookie: str = prop("gorox_node", "The cookie for a backend with sticky_secret.")

    mirror_to: Mirror | None = None
    buffer_request = buffer_response = False
    buffer_memory = max_buffer_size = 65536
    total_timeout = 0.0

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What must be sendable."""
        yield from super().check()
        for name in ("strip_prefix", "add_prefix"):
            prefix = getattr(self, name)
            if prefix and (
                prefix[0] != "/" or not prefix.isascii() or not prefix.isprintable() or " " in prefix
            ):
                yield name, f'must be a path such as /chat, not "{prefix}"'
        if not is_token(self.sticky_cookie.encode()):
            yield "sticky_cookie", f'must be the name of a cookie, not "{self.sticky_cookie}"'
        try:
            check_value(self.via)
        except ValueError as error:
            yield "via", str(error)

    def prepare(self) -> None:
        """Readies the rules."""
        via = check_value(self.via)
        mode: Mode = self.x_forwarded
        self.request_head = RequestHead(
            RequestRules(
                self.host,
                mode,
                self.forwarded,
                self.x_real_ip,
                via,
                self.strip_prefix.encode(),
                self.add_prefix.encode(),
            )
        )
        self.response_head = ResponseHead(ResponseRules(via, self.strip_prefix, self.add_prefix))
        self.own_host: str = (self.host.constant or "") if self.host is not None else ""
        self.protocols = frozenset({b"websocket"})
        self.retries = Retries(
            self.max_retries, frozenset({"connect", "closed"}), frozenset(), frozenset(IDEMPOTENT)
        )
        self.budget = Budget(0.2)
        self.read_timeout = self.head_timeout

    def handle(self, req: Request, resp: Response) -> bool:
        """Checks the handshake and passes it on."""
        if not is_upgrade(req):
            raise upgrade_required()
        if not self.admit(req):
            return False
        check(req)
        if not may_open(req, self.origins):
            raise HTTPError(403, "Pages of other sites may not open WebSockets here (origins).")
        Forward(self, req, resp).run()
        return True
