"""Rules: a condition, and what to run when it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hemi.component import prop
from hemi.values import Condition, Parts, Path, Template
from hemi.web.errors import HTTPError
from hemi.web.handlet import Handlet
from hemi.web.limits import Limited
from hemi.web.reviser import Reviser
from hemi.web.socklet import Socklet
from hemi.web.variables import REQUEST_SCOPE

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response

Run = Callable[["Request", "Response"], "bool | None"]
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Rule(Limited, kind="rules", sign="rule", nested=True):
    """Runs its handlets, or its socklets, for the requests that meet its condition, until one handles the request.

    When all of them decline, the search goes on with the next rule.
    """

    scope = REQUEST_SCOPE

    if_: Condition | None = prop(None, "Which requests; all when missing.", inherit=False)
    handlets: Parts[Handlet] = prop([], "What may handle them, in this order.", inherit=False)
    socklets: Parts[Socklet] = prop(
        [], "What may serve WebSockets, in this order; other requests are answered with 426.", inherit=False
    )
    revisers: Parts[Reviser] = prop(
        [], "What revises them and their responses, in this order.", inherit=False
    )
    return_code: int | None = prop(
        None, "Answer with this status at once.", least=200, most=599, inherit=False
    )
    return_text: Template | None = prop(
        None, "The text of that answer; of a redirection the target.", inherit=False
    )
    return_file: Path | None = prop(None, "A file to answer with.", inherit=False)
    return_type: str = prop("text/plain; charset=utf-8", "The content type of return_text.", inherit=False)
    log_access: bool = prop(True, "Write what this rule handles to the access log.")
    web_root: Path | None = prop(None, "Where -f, -d and -e look for $path.")

    def check(self) -> Iterator[str | tuple[str, str]]:
        """A rule must do one thing."""
        returns = self.return_code is not None or self.return_file is not None
        if returns and (self.handlets or self.socklets):
            yield "must have either handlets or socklets, or return_code and return_file, not both"
        if self.handlets and self.socklets:
            # One that guards (basic_auth, access) would be expected to guard the socklets, too.
            yield "socklets", "must not stand beside handlets: they belong in a rule of their own"
        if not returns and not self.handlets and not self.socklets:
            yield "must have handlets, socklets, return_code or return_file"
        if self.return_text is not None and self.return_code is None:
            yield "return_text", "needs a return_code"
        if self.return_text is not None and self.return_file is not None:
            yield "return_file", "must not stand beside return_text"
        if self.return_code in REDIRECTS and self.return_text is None:
            yield "return_code", f"{self.return_code} needs the target of the redirection in return_text"

    def prepare(self) -> None:
        """Compiles the rule to one callable."""
        run = self._compile()
        if self.revisers:
            run = self._with_revisers(run)
        self.run: Run = run
        self.record: Any = None

    def _compile(self) -> Run:
        if self.return_code is not None or self.return_file is not None:
            return self._make_return()
        return _chain(self.socklets or self.handlets)

    def _with_revisers(self, run: Run) -> Run:
        revisers = tuple(self.revisers)
        request_revisers = tuple(
            one for one in revisers if type(one).revise_request is not Reviser.revise_request
        )
        response_revisers = tuple(
            one for one in revisers if type(one).revise_response is not Reviser.revise_response
        )

        def revised(req: Request, resp: Response) -> bool | None:
            for reviser in request_revisers:
                filter_ = reviser.revise_request(req)
                if filter_ is not None:
                    req.filters += (filter_,)
            before, resp.revisers = resp.revisers, resp.revisers + response_revisers
            done = run(req, resp)
            if not done and not resp.is_sent:
                resp.revisers = before
            return done

        return revised

    def _make_return(self) -> Run:
        code, text, file, content_type = (
            self.return_code or 200,
            self.return_text,
            self.return_file,
            self.return_type,
        )
        if file is not None:

            def send_file(req: Request, resp: Response) -> bool:
                resp.send_file(file, status=code)
                return True

            return send_file
        if text is None:

            def send_status(req: Request, resp: Response) -> bool:
                if code >= 400:
                    resp.error(code)
                else:
                    resp.send(b"", code)
                return True

            return send_status
        if code in REDIRECTS:

            def send_redirect(req: Request, resp: Response) -> bool:
                resp.redirect(text(req), code)
                return True

            return send_redirect
        constant = None if text.constant is None else text.constant.encode()

        def send_text(req: Request, resp: Response) -> bool:
            resp.content_type = content_type
            resp.send(constant if constant is not None else text(req), code)
            return True

        return send_text

    def admit(self, req: Request) -> None:
        """Refuses content that is too large before any of it is read. Raises HTTPError 413."""
        req.limit = self.max_content_size
        if req.content_size > req.limit:
            raise HTTPError(413, f"The content is larger than {req.limit} bytes.", close=True)


def _chain(parts: Sequence[Handlet | Socklet]) -> Run:
    """Runs one after another until one does not decline; a single one is called without a detour."""
    if len(parts) == 1:
        return parts[0].handle
    handles = tuple(part.handle for part in parts)

    def run(req: Request, resp: Response) -> bool | None:
        done: bool | None = False
        for handle in handles:
            done = handle(req, resp)
            if done or resp.is_sent:
                return True
            if done is None:
                return None
        return done

    return run
