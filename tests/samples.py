"""Components for the tests of the core, in a registry of their own: no test depends on what else is registered."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal

from hemi import component as registry
from hemi.component import Component, prop
from hemi.conditions import Scope
from hemi.config import Dirs, load_text
from hemi.errors import ConfigError
from hemi.stage import Stage
from hemi.values import (
    Address,
    Children,
    Condition,
    Duration,
    Hostname,
    Mode,
    Named,
    Network,
    Parts,
    Path,
    Pattern,
    Ref,
    Secret,
    Size,
    Template,
)

CORE = ("hemi.stage", "hemi.clock", "hemi.fcache", "hemi.resolv", "hemi.logger")
DIRS = Dirs("/top", "/top/log", "/top/tmp", "/top/var")


class Sandbox:
    """A registry that holds the core's components, and what is defined inside of the first `with`."""

    def __init__(self, modules: tuple[str, ...] = CORE) -> None:
        Stage.props()
        self._sealed = False
        self._outside: list[dict[str, Any]] = []
        self._inside: list[dict[str, Any]] = [
            {
                kind: kept
                for kind, table in registry._registry.items()
                if (kept := {sign: cls for sign, cls in table.items() if cls.__module__ in modules})
            },
            {kind: cls for kind, cls in registry._bases.items() if cls.__module__ in modules},
            {name: cls for name, cls in registry._classes.items() if cls.__module__ in modules},
        ]

    def __enter__(self) -> Sandbox:
        self._outside = _swap(self._inside)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        inside = _swap(self._outside)
        if not self._sealed:
            self._inside, self._sealed = inside, True


def _swap(tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    live: list[dict[str, Any]] = [registry._registry, registry._bases, registry._classes]
    saved = _copies(live)
    for table, wanted in zip(live, _copies(tables), strict=True):
        table.clear()
        table.update(wanted)
    for cache in registry._caches:
        cache.clear()
    return saved


def _copies(tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    registered, bases, classes = tables
    return [{kind: dict(table) for kind, table in registered.items()}, dict(bases), dict(classes)]


def load(text: str, **keywords: Any) -> Stage:
    """Loads a text against DIRS, as the file "it"."""
    return load_text(text, DIRS, "it", **keywords)


def problems(text: str) -> list[str]:
    """What is wrong in a text."""
    try:
        load(text)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


events: list[str] = []  # what the verbs below did


sandbox = Sandbox()

with sandbox:

    class Recorder(Component):
        """Notes what its verbs do; `fails` names the verb that does not work."""

        fails: Literal["prepare", "start", "stop", "bug"] | None = prop(None, inherit=False)

        def note(self, verb: str) -> None:
            events.append(f"{verb} {self.name or self.sign}")
            if self.fails == verb:
                raise OSError(98, "Address already in use", "/x")

        def prepare(self) -> None:
            self.note("prepare")
            if self.fails == "bug":
                raise KeyError("oops")

        def start(self) -> None:
            self.note("start")

        def stop(self, deadline: float) -> None:
            self.note("stop")

    class Backend(Recorder, kind="backends"):
        """A group of upstream servers."""

        balancer: Literal["round_robin", "random", "least_conn"] = prop("round_robin", "How to choose.")
        dial_timeout: Duration = prop("10s", "How long to wait.", least="100ms", most="1h")

    class HTTPBackend(Backend, sign="http_backend"):
        """Speaks HTTP to its nodes."""

        nodes: Children[Node] = prop(doc="The servers.", least=1)
        password: Secret | None = prop(None, "To be let in.")

    class TCPXBackend(Backend, sign="tcpx_backend"):
        """Speaks TCP to its nodes."""

    class Node(Recorder, kind="nodes", nested=True, sign="node"):
        """One of the servers."""

        address: Address = prop(doc="Where it is.", inherit=False)
        weight: int = prop(1, "How much of the work it gets.", least=1, most=100)

    class Handlet(Recorder, kind="handlets", nested=True):
        """Produces responses."""

    class Static(Handlet, sign="static"):
        """Serves files."""

        web_root: Path = prop(doc="The folder.")
        max_cached: Size = prop("64K", "The largest file kept.", least="1K", most="1M")
        index_file: str = prop("index.html", "For folders.")
        types: dict[str, str] = prop({}, "Media types.", inherit=False)

    class Proxy(Handlet, sign="http_proxy"):
        """Asks a backend."""

        to_backend: Ref[HTTPBackend] = prop(doc="Whom to ask.")
        spares: list[Ref[Backend]] = prop([], "Whom else to ask.")

    class Reviser(Recorder, kind="revisers", nested=True):
        """Filters content."""

    class Gzip(Reviser, sign="gzip"):
        """Compresses."""

        level: int = prop(6, least=1, most=9)

    class Rule(Recorder, kind="rules", nested=True, sign="rule"):
        """A condition and what to run."""

        if_: Condition | None = prop(None, "When.", inherit=False)
        handlets: Parts[Handlet] = prop([], "What.")
        revisers: Parts[Reviser] = prop([])
        return_text: Template | None = prop(None, inherit=False)

    class Webapp(Recorder, kind="webapps", sign="webapp"):
        """A site."""

        scope = Scope(
            "rule",
            {"path": "s.path", "method": "s.method", "src_host": "s.src_host"},
            {"header_": "s.header({name!r})", "query_": "s.query({name!r})"},
            {"src_host"},
            "s.file_path()",
        )

        hostnames: list[Hostname] = prop(["*"], "Its names.", inherit=False, least=1)
        handlets: Named[Handlet] = prop({}, "Shared ones.")
        rules: Children[Rule] = prop([], "In order.")
        settings: dict[str, Any] = prop({}, "The app's own.", inherit=False)
        blocked: list[Pattern] = prop([], inherit=False)
        allowed: list[Network] = prop([])
        tls: bool = prop(False)
        ratio: float = prop(0.5, least=0, most=1)
        workers: int | Literal["auto"] = prop("auto", least=1)

        def check(self) -> Iterator[str | tuple[str, str]]:
            if self.tls and "*" in self.hostnames:
                yield "hostnames", "must be exact when there is tls"
            if self.ratio == 0.25:
                raise RuntimeError("odd")

    class Server(Recorder, kind="servers"):
        """Listens."""

        address: list[Address] = prop(doc="Where.", inherit=False)
        uds_mode: Mode = prop("0660")

    class HTTPXServer(Server, sign="httpx_server"):
        """Listens for HTTP."""

        webapps: list[Ref[Webapp]] = prop([], "The sites.")

    class TCPXServer(Server, sign="tcpx_server"):
        """Listens for TCP."""
