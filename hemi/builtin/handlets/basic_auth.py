"""The handlet `basic_auth`: user names and passwords by HTTP's Basic authentication (RFC 7617)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hemi.component import prop
from hemi.passwords import Passwords, PutOff
from hemi.web.errors import HTTPError
from hemi.web.fields import quote_string
from hemi.web.handlet import Handlet

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response

__all__ = ["BasicAuth"]


class BasicAuth(Passwords, Handlet, sign="basic_auth"):
    """Asks for user name and password, and declines the requests of those who know them.

    The next handlets see the user as $user, WSGI apps as REMOTE_USER. Passwords are hashed by bcrypt or argon2 (with
    the packages of `pip install 'gorox[auth]'`), or by apr1 or sha-crypt in files that are older. Use it over https
    only: the password travels with every request, as good as readable.
    """

    realm: str = prop("Restricted", "What the password is for: browsers show it.", inherit=False)
    hide: bool = prop(
        False, "Remove the password from the request, so that no app and no backend sees it.", inherit=False
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """There must be users, and a text that a field can carry."""
        try:
            quote_string(self.realm)
        except ValueError as error:
            yield "realm", f"must be text that a field can carry: {error}"
        if not self.has_users:
            yield "must have users or a users_file"
        yield from Passwords.check(self)

    def prepare(self) -> None:
        """Reads the file, writes the challenge."""
        self._challenge = (("www-authenticate", f'Basic realm={quote_string(self.realm)}, charset="UTF-8"'),)
        Passwords.prepare(self)

    def handle(self, req: Request, resp: Response) -> bool:
        """Declines when user and password are right. A client that is put off gets 429, or 503 when there is too much
        to do."""
        credentials = req.basic_auth()
        if credentials is not None and self._is_right(req, *credentials):
            req.auth_user = credentials[0]
            if self.hide:
                req.delete_header("authorization")
            return False
        resp.error(401, headers=self._challenge)
        return True

    def _is_right(self, req: Request, user: str, password: str) -> bool:
        try:
            right = self.knows(user, password.encode(), req.src_host)
        except PutOff as error:
            status = 429 if error.is_guessing else 503
            self.stage.log.warning("auth", f"{req.src_host} was put off with {status} at {req.line()}")
            raise HTTPError(status, headers=(("retry-after", str(error.seconds)),)) from None
        if not right:
            self.stage.log.info("auth", f"{req.src_host} failed as {user[:80]!r} at {req.line()}")
        return right
