"""User names and passwords: who comes in, what it costs, what is said and what is not."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import gevent
import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi import passwords
from hemi.errors import ConfigError
from hemi.library import htpasswd, unixcrypt
from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import Answer, Site, config, load, scripted, serve, until


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


ANNA, BERT = hashed("anna's"), unixcrypt.apr1(b"bert's", "salt")


def show(req: Request, resp: Response) -> bool:
    resp.send_json([req.user(), req.auth_user, req.header("authorization") is not None])
    return True


def rules(props: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"handlets": [{"basic_auth": props}, scripted(show)]}]


def field(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def ask(site: Site, user: str, password: str, **fields: str) -> Answer:
    return site.get(Authorization=field(user, password), **fields)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The hashes that are really verified."""
    calls: list[str] = []
    verify = htpasswd.verify

    def counting(text: str, password: bytes) -> bool:
        calls.append(text)
        return verify(text, password)

    monkeypatch.setattr(htpasswd, "verify", counting)
    yield calls


def test_the_right_password() -> None:
    with serve(rules=rules({"users": {"anna": ANNA, "bert": BERT}})) as site:
        assert ask(site, "anna", "anna's").content == b'["anna","anna",true]'
        assert ask(site, "bert", "bert's").content == b'["bert","bert",true]'
        assert site.get(Authorization="bASIC  " + field("anna", "anna's")[6:]).status == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        field("anna", "bert's"),
        field("anna", ""),
        field("Anna", "anna's"),
        field("nobody", "anna's"),
        field("", ""),
        "Basic",
        "Basic ???",
        "Basic YW5uYQ==",
        "Bearer " + field("anna", "anna's")[6:],
        field("anna", "anna's") + "=",
    ],
)
def test_anything_else_is_asked_for_it(authorization: str | None) -> None:
    with serve(rules=rules({"users": {"anna": ANNA, "bert": BERT}, "realm": 'the "back" office'})) as site:
        answer = site.get(**({"Authorization": authorization} if authorization else {}))
        assert answer.status == 401
        assert answer.header("www-authenticate") == 'Basic realm="the \\"back\\" office", charset="UTF-8"'


def test_the_user_is_known_without_the_password() -> None:
    with serve(rules=rules({"users": {"anna": ANNA}, "hide": True})) as site:
        assert ask(site, "anna", "anna's").content == b'["anna","anna",false]'


def test_a_success_is_remembered_and_a_failure_is_not(verified: list[str]) -> None:
    with serve(rules=rules({"users": {"anna": ANNA, "bert": BERT}})) as site:
        for _ in range(3):
            assert ask(site, "anna", "anna's").status == 200
        assert verified == [ANNA]
        for _ in range(2):
            assert ask(site, "anna", "wrong").status == 401
        assert verified == [ANNA] * 3
        assert ask(site, "bert", "anna's").status == 401


def test_a_success_is_not_remembered_for_ever(verified: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(rules=rules({"users": {"anna": ANNA}, "cache_time": "1m"})) as site:
        assert ask(site, "anna", "anna's").status == 200
        verifier = site.stage.members["webapps"]["app"].rules[0].handlets[0]._verifier  # type: ignore[attr-defined]
        for digest in verifier._right:
            verifier._right[digest] -= 61
        assert ask(site, "anna", "anna's").status == 200
        assert len(verified) == 2
        monkeypatch.setattr(passwords, "MAX_CACHED", 1)
        verifier._remember(b"another", "client")
        assert list(verifier._right) == [b"another"]
    with serve(rules=rules({"users": {"anna": ANNA}, "cache_time": 0})) as site:
        assert [ask(site, "anna", "anna's").status for _ in range(2)] == [200, 200]
        assert len(verified) == 4


def test_an_unknown_user_costs_the_same(verified: list[str]) -> None:
    with serve(rules=rules({"users": {"anna": ANNA, "bert": BERT}})) as site:
        for _ in range(2):
            assert ask(site, "nobody", "anna's").status == 401
        assert len(verified) == 2 and len(set(verified)) == 1
        # Not even the password of the user whose hash stood in opens the door.
        assert ask(site, "nobody", "bert's").status == 401


def test_guesses_are_limited_for_each_client(verified: list[str]) -> None:
    props = {"users": {"anna": ANNA}, "max_failures": 3, "failure_window": "1h"}
    with serve(rules=rules(props), server={"trusted_proxies": ["127.0.0.1"]}) as site:

        def guess(client: str, password: str) -> Answer:
            return ask(site, "anna", password, X_Forwarded_For=client)

        assert [guess("2001:db8::1", f"{n}").status for n in range(5)] == [401, 401, 401, 429, 429]
        answer = guess("2001:db8::2", "anna's")  # of the same /64
        assert answer.status == 429 and 1100 < int(answer.header("retry-after") or 0) <= 1200
        assert len(verified) == 3
        assert guess("192.0.2.1", "anna's").status == 200
        assert guess("2001:db8::1", "anna's").status == 200  # what is remembered to be right is no guess
        assert "2001:db8::1 was put off with 429" in site.log.of("warning", "auth")[0].message
        assert [guess("192.0.2.9", "anna's").status for _ in range(9)] == [200] * 9


def test_successes_count_as_no_failures(verified: list[str]) -> None:
    props = {"users": {"anna": ANNA}, "max_failures": 2, "failure_window": "1h", "cache_time": 0}
    with serve(rules=rules(props)) as site:
        assert [ask(site, "anna", "anna's").status for _ in range(6)] == [200] * 6
        assert [ask(site, "anna", "?").status for _ in range(3)] == [401, 401, 429]


def test_equal_verifications_are_made_once_and_not_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    gate, calls, main = threading.Event(), [], gevent.get_hub()

    def slow(text: str, password: bytes) -> bool:
        calls.append(gevent.get_hub() is main)
        gate.wait(10)
        return True

    monkeypatch.setattr(htpasswd, "verify", slow)
    with serve(rules=rules({"users": {"anna": ANNA}, "max_failures": 1})) as site:
        asking = [gevent.spawn(ask, site, "anna", "anna's") for _ in range(5)]
        until(lambda: calls and len(site.conns) == 5)
        assert site.get("/").status == 401  # others are served meanwhile
        gate.set()
        gevent.joinall(asking, 10)
        assert [one.value.status for one in asking] == [200] * 5
        assert calls == [False]


def test_too_many_verifications_are_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MAX_WAITING", 0)
    with serve(rules=rules({"users": {"anna": ANNA}})) as site:
        answer = ask(site, "anna", "anna's")
        assert (answer.status, answer.header("retry-after")) == (503, "1")


def test_files_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"anna:{ANNA}\n")
    with serve(rules=rules({"users_file": str(path), "users": {"bert": BERT}})) as site:
        handlet: Any = site.stage.members["webapps"]["app"].rules[0].handlets[0]  # type: ignore[attr-defined]

        def change(text: str) -> None:
            path.write_text(text)
            handlet._file._due = 0  # do not wait for the next look

        assert ask(site, "anna", "anna's").status == ask(site, "bert", "bert's").status == 200
        change(f"anna:{hashed('new')}\n")
        assert ask(site, "anna", "anna's").status == 401
        assert ask(site, "anna", "new").status == 200
        change("anna:broken\n")
        assert ask(site, "anna", "new").status == 200
        assert "line 1: it must be a hash" in site.log.of("error", "auth")[0].message
        change("")
        assert ask(site, "anna", "new").status == 401
        assert ask(site, "bert", "bert's").status == 200


def test_nobody_is_in_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("")
    with serve(rules=rules({"users_file": str(path)})) as site:
        assert ask(site, "anna", "anna's").status == 401


def test_wsgi_apps_know_the_user(tmp_path: Path) -> None:
    (tmp_path / "who_app.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [environ.get('REMOTE_USER', '-').encode('latin-1')]\n"
    )
    wsgi = {"wsgi": {"app": "who_app:app", "python_path": [str(tmp_path)]}}
    protected = {"if": '$path == "/in"', "handlets": [{"basic_auth": {"users": {"jürgen": ANNA}}}, wsgi]}
    with serve(rules=[protected, {"handlets": [wsgi]}]) as site:
        answer = site.get("/in", Authorization=field("jürgen", "anna's"))
        assert answer.content.decode() == "jürgen"
        assert site.get("/", Authorization=field("jürgen", "?")).content == b"-"


def test_together_with_access() -> None:
    props = {"allow": ["10.0.0.0/8"], "satisfy": "any", "auth": [{"basic_auth": {"users": {"anna": ANNA}}}]}
    rules = [{"handlets": [{"access": props}, scripted(show)]}]
    with serve(rules=rules, server={"trusted_proxies": ["127.0.0.1"]}) as site:
        assert site.get(X_Forwarded_For="10.0.0.1").content == b'["","",false]'
        assert site.get(X_Forwarded_For="192.0.2.1").status == 401
        assert ask(site, "anna", "anna's", X_Forwarded_For="192.0.2.1").status == 200


def test_plain_passwords_only_when_allowed() -> None:
    props = {"users": {"anna": "{PLAIN}x:y"}, "allow_plain": True}
    with serve(rules=rules(props)) as site:
        assert ask(site, "anna", "x:y").status == 200
        assert ask(site, "anna", "x").status == 401


@pytest.mark.parametrize(
    ("props", "problem"),
    [
        ({}, "must have users or a users_file"),
        ({"users": {"anna": "secret"}}, 'users "anna": it must be a hash of bcrypt'),
        ({"users": {"anna": "{PLAIN}x"}}, "needs allow_plain"),
        ({"users": {"a:b": ANNA}}, "a user name must have neither controls nor a colon"),
        ({"users": {"anna": ANNA}, "realm": "a\nb"}, "realm must be text that a field can carry"),
        ({"users_file": "/nowhere/users"}, "users_file cannot be read: /nowhere/users: No such file"),
        ({"users_file": "/dev/null"}, "users_file /dev/null is not usable: it is not a regular file"),
    ],
)
def test_problems(props: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        load(config(rules=[{"handlets": [{"basic_auth": props}]}]))
    assert "secret" not in str(caught.value)
