"""Webapps: the sites that servers serve, chosen by host name. See `hemi.web.rule` for what they are made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from hemi.component import prop
from hemi.errors import EnvError, UsageError
from hemi.logger import Logger
from hemi.meter import new_meter
from hemi.values import Children, Hostname, Named, Path, Ref, Secret
from hemi.web import apploader
from hemi.web.apploader import is_patched
from hemi.web.errors import HTTPError, SearchAgain
from hemi.web.handlet import Handlet
from hemi.web.limits import Limited
from hemi.web.mime import type_of
from hemi.web.reviser import Reviser
from hemi.web.rule import Rule, Run
from hemi.web.socklet import Socklet
from hemi.web.variables import LOG_SCOPE, REQUEST_SCOPE

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response

MAX_ERROR_PAGE = 1 << 20
ALLOW = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
MAX_RESTARTS = 10
"""How often the rules are searched again for one request (nginx: 10 internal redirects)."""


class Webapp(Limited, kind="webapps", sign="webapp"):
    """A site: which host names it has, and the rules by which its requests are handled."""

    scope = REQUEST_SCOPE

    hostnames: list[Hostname] = prop(
        doc='Exact names, "*.suffix", "prefix.*", or "*" for requests that no other webapp of the server wants.',
        least=1,
        inherit=False,
    )
    web_root: Path | None = prop(None, "The folder of the site's files.")
    handlets: Named[Handlet] = prop({}, "Handlets that several rules share, by name.", inherit=False)
    socklets: Named[Socklet] = prop({}, "Socklets that several rules share, by name.", inherit=False)
    revisers: Named[Reviser] = prop({}, "Revisers that several rules share, by name.", inherit=False)
    rules: Children[Rule] = prop([], "Tried in this order.", inherit=False)
    force_https: bool = prop(False, "Redirect plain requests to https (308).")
    error_pages: dict[str, Path] = prop(
        {}, "Files to show instead of the built-in pages, by status, such as 404."
    )
    settings: dict[str, str] = prop({}, "Free values for the code of the webapp.", inherit=False)
    init: str | None = prop(
        None, 'Called with the webapp while it is prepared: "module:function".', inherit=False
    )
    access_log: Ref[Logger] | None = prop(
        None, "Where to log what is handled; the stage's access log when missing."
    )
    tls_certificate: Path | None = prop(
        None, "PEM file with the certificate, and the chain below it, for TLS servers."
    )
    tls_private_key: Path | None = prop(
        None, "PEM file with the private key, if it is not in tls_certificate."
    )
    tls_password: Secret | None = prop(None, "The password of the private key.")

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What does not fit together."""
        for status, path in self.error_pages.items():
            if not (status.isdigit() and 400 <= int(status) <= 599):
                yield "error_pages", f"must be keyed by a status from 400 to 599, not {status!r}"
            try:
                _read_page(path)
            except (EnvError, UsageError) as error:
                yield "error_pages", f"must be files that can be shown: {error}"
        logger = self.access_log or self.stage.access_log
        problem = logger.format_problem(LOG_SCOPE) if logger is not None else None
        if problem:
            yield "access_log", f"does not fit requests: {problem}"
        if self.init is not None and not all(self.init.partition(":")):
            yield "init", f'must be "module:function", not {self.init!r}'
        elif self.init is not None and is_patched():
            try:
                _import_hook(self.init)
            except UsageError as error:
                yield "init", f"must be importable: {error}"

    def prepare(self) -> None:
        """Reads the error pages, runs the init hook, compiles the rules to a flat chain."""
        self.meter = new_meter()
        self._pages = {int(status): _read_page(path) for status, path in self.error_pages.items()}
        self.chain: tuple[tuple[Any, Run, Rule], ...] = tuple(
            (rule.if_, rule.run, rule) for rule in self.rules
        )
        logger = self.access_log or self.stage.access_log
        self.record: Callable[[Response], None] | None = (
            logger.recorder(LOG_SCOPE) if logger is not None else None
        )
        for rule in self.rules:
            rule.record = self.record if rule.log_access else None
        if self.init is not None:
            self._run_init(self.init)

    def _run_init(self, spec: str) -> None:
        hook = _import_hook(spec)
        try:
            hook(self)
        except Exception as error:
            raise EnvError(f"init {spec!r} failed: {type(error).__name__}: {error}") from error

    def dispatch(self, req: Request, resp: Response) -> None:
        """Runs the first rule that handles the request; a rule whose handlets decline is passed over.

        A handlet that has given the request another path may raise SearchAgain: the search then begins anew.
        """
        if self.force_https and req.scheme == "http":
            resp.redirect(f"https://{_host_of(req)}{req.uri() if req.path != '*' else '/'}", 308)
            return
        restarts = 0
        while True:
            try:
                for match, run, rule in self.chain:
                    if match is None or match(req):
                        req.rule = rule
                        if req.content_size:
                            rule.admit(req)
                        done = run(req, resp)
                        if done or resp.is_sent:
                            return
                        if done is None:
                            raise RuntimeError(
                                "a handlet returned None and sent nothing: it must return True or False"
                            )
                break
            except SearchAgain:
                restarts += 1
                self._restart(req, resp, restarts)
        req.rule = None
        if req.path == "*" and req.method == "OPTIONS":
            resp.add_header("allow", ALLOW)
            resp.send(b"", 204)
        else:
            resp.error(404)

    def _restart(self, req: Request, resp: Response, restarts: int) -> None:
        """Makes the request and its response fit for another search. Raises HTTPError 500 when it was one too many."""
        resp.reset()
        resp.revisers = ()
        if not req.received:
            req.filters = ()
        if restarts > MAX_RESTARTS:
            self.stage.log.error(
                "web",
                f'webapp "{self.name}": the rules send {req.line()} round in circles, at last to {req.uri()}',
            )
            raise HTTPError(500)

    def error_page(self, status: int) -> tuple[str, bytes] | None:
        """Type and content of the site's own page for a status, or None."""
        return self._pages.get(status)


def _host_of(req: Request) -> str:
    return f"[{req.hostname}]" if ":" in req.hostname else req.hostname


def _import_hook(spec: str) -> Callable[[Webapp], object]:
    """What "module:function" names. Raises UsageError."""
    hook = apploader.load(spec)
    if not callable(hook):
        raise UsageError(f"{spec!r} must be a function, not {hook!r:.80}")
    return hook  # type: ignore[no-any-return]  # whatever it takes


def _read_page(path: str) -> tuple[str, bytes]:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_ERROR_PAGE:
                raise UsageError(f"the error page {path} must not be larger than {MAX_ERROR_PAGE} bytes")
            return type_of(path), file.read()
    except OSError as error:
        raise EnvError(f"cannot read the error page {path}: {error.strerror}") from error
