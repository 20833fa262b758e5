"""The framework, through a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hemi.web.errors import HTTPError
from hemi.web.framework import App, Group, abort, redirect
from hemi.web.routing import BadPattern
from tests import webkit
from tests.web.websocket.wskit import FIELDS, open_ws
from tests.wsgikit import name_of

Request = Any
Response = Any


@contextmanager
def serve(app: App, *more: Any) -> Iterator[webkit.Site]:
    handlets = [{"app": {"app": name_of(app), "python_path": []}}, *more]
    with webkit.serve(rules=[{"handlets": handlets}]) as site:
        yield site


def ask(
    site: webkit.Site, method: str, target: str, content: bytes | None = None, **fields: str
) -> webkit.Answer:
    with site.connect() as client:
        client.request(method, target, fields, content=content)
        return client.answer(method)


# Routes and what they return


def test_what_a_function_returns_is_the_response() -> None:
    app = App()
    results: dict[str, Any] = {
        "text": "<b>é</b>",
        "bytes": b"\x00\x01",
        "dict": {"a": [1, "é"]},
        "list": [1, 2],
        "status": ({"id": 1}, 201),
        "headers": ("gone", 410, {"x-why": "old"}),
        "pairs": (None, 204, [("x-a", "1"), ("x-a", "2")]),
    }

    @app.get("/<name>")
    def show(req: Request, name: str) -> Any:
        return results[name]

    with serve(app) as site:
        text = site.get("/text")
        assert (text.content.decode(), text.header("content-type")) == (
            "<b>é</b>",
            "text/html; charset=utf-8",
        )
        assert site.get("/bytes").header("content-type") == "application/octet-stream"
        answer = site.get("/dict")
        assert (json.loads(answer.content), answer.header("content-type")) == (
            {"a": [1, "é"]},
            "application/json",
        )
        assert json.loads(site.get("/list").content) == [1, 2]
        assert site.get("/status").status == 201
        gone = site.get("/headers")
        assert (gone.status, gone.header("x-why"), gone.content) == (410, "old", b"gone")
        pairs = site.get("/pairs")
        assert pairs.status == 204 and [value for name, value in pairs.fields if name == "x-a"] == ["1", "2"]


def test_a_generator_is_streamed_and_closed() -> None:
    app = App()
    ended: list[int] = []

    @app.get("/")
    def stream(req: Request) -> Iterator[str]:
        try:
            yield "one "
            yield ""
            yield "two"
        finally:
            ended.append(1)

    with serve(app) as site:
        answer = site.get("/")
        assert answer.content == b"one two" and answer.header("transfer-encoding") == "chunked"
        assert ask(site, "HEAD", "/").status == 200
        assert ended == [1, 1]


def test_a_function_may_use_the_response_itself() -> None:
    app = App()

    @app.get("/cookie")
    def cookie(req: Request, resp: Response) -> str:
        resp.set_cookie("a", "1")
        return "set"

    @app.get("/sent/<int:n>")
    def sent(req: Request, resp: Response, n: int) -> None:
        resp.send_json({"n": n})

    with serve(app) as site:
        assert "a=1" in (site.get("/cookie").header("set-cookie") or "")
        assert site.get("/sent/7").content == b'{"n":7}'


@pytest.mark.parametrize("result", [None, 7, True, object(), ("x",), ("x", "y"), ("x", 99), {1, 2}])
def test_what_cannot_be_a_response_is_a_logged_500(result: Any) -> None:
    app = App()
    app.get("/")(lambda req: result)
    with serve(app) as site:
        assert site.get("/").status == 500
        assert len(site.log.of("error")) == 1


def test_methods_head_options_405() -> None:
    app = App()
    app.get("/a")(lambda req: "got")
    app.post("/a")(lambda req: ("made", 201))
    app.put("/b")(lambda req: "put")
    app.patch("/b")(lambda req: "patched")
    app.delete("/b")(lambda req: "deleted")
    app.route("/c", "GET", "REPORT")(lambda req: req.method)

    with serve(app) as site:
        assert ask(site, "POST", "/a", b"").status == 201
        head = ask(site, "HEAD", "/a")
        assert (head.status, head.header("content-length")) == (200, "3")
        options = ask(site, "OPTIONS", "/a")
        assert (options.status, options.header("allow")) == (204, "GET, HEAD, OPTIONS, POST")
        wrong = ask(site, "DELETE", "/a")
        assert (wrong.status, wrong.header("allow")) == (405, "GET, HEAD, OPTIONS, POST")
        assert ask(site, "HEAD", "/b").status == 405
        assert [ask(site, method, "/b").content for method in ("PUT", "PATCH", "DELETE")] == [
            b"put",
            b"patched",
            b"deleted",
        ]
        assert ask(site, "REPORT", "/c").content == b"REPORT"
        assert ask(site, "OPTIONS", "*").status == 204


def test_a_slash_more_or_less_redirects() -> None:
    app = App()
    app.get("/a")(lambda req: "a")
    app.get("/b/")(lambda req: "b")
    app.post("/é/")(lambda req: "b")
    with serve(app) as site:
        answer = site.get("/a/?q=1")
        assert (answer.status, answer.header("location")) == (308, "/a?q=1")
        assert site.get("/b").header("location") == "/b/"
        assert ask(site, "POST", "/%C3%A9", b"x").header("location") == "/%C3%A9/"
        assert site.get("//evil.example/a/").status == 404


def test_redirect_and_abort() -> None:
    app = App()
    app.get("/old")(lambda req: redirect("/nëw?a=b", 301))

    @app.get("/abort")
    def stop(req: Request) -> None:
        abort(403, "Not <you>.", headers=[("x-a", "1")])

    with serve(app) as site:
        old = site.get("/old")
        assert (old.status, old.header("location")) == (301, "/n%C3%ABw?a=b")
        stopped = site.get("/abort", accept="text/html")
        assert stopped.status == 403 and b"Not &lt;you&gt;." in stopped.content
        assert stopped.header("x-a") == "1"
        assert not site.log.of("error")


def test_an_app_declines_what_it_has_no_route_for() -> None:
    app = App()
    app.get("/a")(lambda req: "a")
    other = App()
    other.get("/b")(lambda req: "b")
    with serve(app, {"app": {"app": name_of(other), "python_path": []}}) as site:
        assert site.get("/b").content == b"b"
        assert site.get("/c").status == 404


def test_forms_json_and_queries_are_those_of_the_request() -> None:
    app = App()
    app.post("/json")(lambda req: {"got": req.json()})
    app.get("/query")(lambda req: req.query("q"))
    with serve(app) as site:
        assert ask(site, "POST", "/json", b'{"a": 1}').content == b'{"got":{"a":1}}'
        assert ask(site, "POST", "/json", b"{").status == 400
        assert site.get("/query?q=x%20y").content == b"x y"


# Hooks, errors, groups


def test_hooks_run_around_the_function_from_outside_in_and_back() -> None:
    app, ran = App(), []
    api = app.group("/api")

    @app.before
    def outer(req: Request) -> None:
        ran.append("app before")

    @api.before
    def inner(req: Request) -> Any:
        ran.append("api before")
        return ("stop", 401) if req.query("stop") else None

    @app.after
    def outer_after(req: Request, resp: Response) -> None:
        ran.append("app after")
        resp.set_header("x-after", str(resp.status))

    @api.after
    def inner_after(req: Request) -> None:
        ran.append("api after")

    @app.teardown
    def down(req: Request, error: BaseException | None) -> None:
        ran.append(f"down {type(error).__name__}")

    @api.get("/")
    def index(req: Request) -> str:
        ran.append("function")
        return "fine"

    with serve(app) as site:
        assert site.get("/api").header("x-after") == "200"
        assert ran == ["app before", "api before", "function", "api after", "app after", "down NoneType"]
        ran.clear()
        stopped = site.get("/api?stop=1")
        assert (stopped.status, stopped.content, stopped.header("x-after")) == (401, b"stop", "401")
        assert "function" not in ran


def test_hooks_behind_the_function_see_handled_errors() -> None:
    """Fields that every response must have, such as those of CORS, are on the pages of errors as well."""
    app = App()
    api = app.group("/api")

    @app.after
    def outer(req: Request, resp: Response) -> None:
        resp.add_header("x-after", f"app {resp.status}")

    @api.after
    def inner(req: Request, resp: Response) -> None:
        resp.add_header("x-after", "api")

    @app.error(404, 405, KeyError)
    def handled(req: Request, error: Exception) -> str:
        return "handled"

    @api.get("/<what>")
    def fail(req: Request, what: str) -> str:
        if what == "zero":
            raise ZeroDivisionError
        raise KeyError if what == "key" else HTTPError(404)

    with serve(app) as site:
        for path, status, seen in (
            ("/api/key", 500, ["api", "app 500"]),
            ("/api/gone", 404, ["api", "app 404"]),
            ("/nowhere", 404, ["app 404"]),
            ("/api/zero", 500, []),
        ):
            answer = site.get(path)
            assert answer.status == status, path
            assert [value for name, value in answer.fields if name == "x-after"] == seen, path
        assert ask(site, "POST", "/nowhere").header("x-after") == "app 404"


def test_error_handlers_by_status_and_class_innermost_first() -> None:
    app = App()
    api = app.group("/api")

    class Missing(LookupError):
        pass

    @app.error(404)
    def missing(req: Request, error: Exception) -> str:
        return "no such page"

    @app.error(LookupError)
    def lookup(req: Request, resp: Response, error: Exception) -> Any:
        return {"lookup": str(error)}, 410

    @api.error(404)
    def api_missing(req: Request, error: Exception) -> Any:
        return {"error": "missing"}

    @app.error(500)
    def broken(req: Request, error: Exception) -> str:
        return "sorry"

    @app.get("/<kind>")
    def fail(req: Request, resp: Response, kind: str) -> None:
        resp.set_header("x-left", "over")
        raise {"lookup": Missing("x"), "zero": ZeroDivisionError(), "abort": HTTPError(404)}[kind]

    @api.get("/x")
    def inner(req: Request) -> None:
        abort(404)

    with serve(app) as site:
        lookup_answer = site.get("/lookup")
        assert (lookup_answer.status, lookup_answer.content) == (410, b'{"lookup":"x"}')
        assert lookup_answer.header("x-left") is None
        assert site.get("/zero").content == b"sorry" and site.get("/zero").status == 500
        assert site.get("/abort").content == b"no such page"
        assert site.get("/nothing/at/all").content == b"no such page"
        assert site.get("/nothing/at/all").status == 404
        assert site.get("/api/x").content == b'{"error":"missing"}'
        assert {type(entry.exc).__name__ for entry in site.log.of("error")} == {
            "Missing",
            "ZeroDivisionError",
        }


def test_an_error_without_a_handler_is_a_logged_500_and_teardown_knows_it() -> None:
    app, seen = App(), []
    app.get("/")(lambda req: 1 / 0)
    app.teardown(lambda req, error: seen.append(type(error)))
    with serve(app) as site:
        assert site.get("/").status == 500
        assert seen == [ZeroDivisionError] and len(site.log.of("error")) == 1


def test_groups_nest_and_can_be_mounted_twice() -> None:
    app, shop, items = App("/v1"), Group("/shop", name="shop"), Group("/items", name="items")

    @items.get("/<int:id>")
    def item(req: Request, id: int) -> str:
        return str(id)

    shop.mount(items)
    app.mount(shop)
    app.mount(shop, "/again")
    with serve(app) as site:
        assert site.get("/v1/shop/items/7").content == b"7"
        assert site.get("/v1/again/shop/items/8").content == b"8"
    assert app.url_for("shop.items.item", id=7) == "/v1/shop/items/7"


def test_url_for() -> None:
    app = App()

    @app.get("/u/<name>", name="user")
    def show(req: Request, name: str) -> str:
        return name

    assert app.url_for("user", name="a b") == "/u/a%20b"
    assert app.url_for(show, name="x", page=2, q="ä&") == "/u/x?page=2&q=%C3%A4%26"
    with pytest.raises(LookupError, match="needs name"):
        app.url_for("user")
    with pytest.raises(LookupError, match="no route 'nothing'"):
        app.url_for("nothing")


def test_a_converter_of_ones_own() -> None:
    app = App()
    app.converter("hex", lambda text: int(text, 16), "{:x}".format)
    app.get("/<hex:n>", name="n")(lambda req, n: str(n))
    with serve(app) as site:
        assert site.get("/ff").content == b"255"
        assert site.get("/zz").status == 404
    assert app.url_for("n", n=16) == "/10"


# Declarations


def test_functions_that_do_not_fit_their_pattern_are_found_when_declared() -> None:
    app = App()
    with pytest.raises(TypeError, match="has no parameter id"):
        app.get("/<int:id>")(lambda req: "")
    with pytest.raises(TypeError, match="wants name"):
        app.get("/")(lambda req, name: "")
    with pytest.raises(TypeError, match="must take the request"):
        app.get("/")(lambda: "")
    app.get("/<a>/<b>")(lambda req, **values: "")
    app.get("/<a>")(lambda req, a, more=1: "")
    with pytest.raises(ValueError, match="prefix"):
        Group("api")
    with pytest.raises(ValueError, match="prefix"):
        app.mount(Group(), "/api/")


def test_bad_patterns_are_found_when_compiled() -> None:
    app = App()
    app.get("/a")(lambda req: "")
    app.get("/a")(lambda req: "")
    with pytest.raises(BadPattern, match="declared twice"):
        app.compile()


# Templates


def test_templates_escape(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>{{ text }} {{ url_for('home') }}</p>")
    app = App(templates=tmp_path)

    @app.get("/", name="home")
    def home(req: Request) -> str:
        return app.render("a.html", text="<script>")

    with serve(app) as site:
        assert site.get("/").content == b"<p>&lt;script&gt; /</p>"
    with pytest.raises(RuntimeError, match="no templates"):
        App().render("a.html")


# WebSockets


def test_websockets() -> None:
    app = App()
    ended: list[Any] = []

    @app.before
    def guard(req: Request) -> Any:
        return ("no", 403) if req.query("key") == "wrong" else None

    @app.teardown
    def note(req: Request, error: Any) -> None:
        ended.append(error)

    @app.websocket("/chat/<room>", subprotocols=["b", "a"])
    def chat(ws: Any, room: str) -> None:
        for message in ws:
            if message == "raise":
                raise ValueError("oops")
            ws.send(f"{room} {ws.subprotocol} {message}")

    @app.get("/both")
    def page(req: Request) -> str:
        return "page"

    @app.websocket("/both")
    def both(ws: Any) -> None:
        ws.send("socket")

    with serve(app) as site:
        with open_ws(site, "/chat/x", Sec_WebSocket_Protocol="a, b") as ws:
            ws.send("1")
            assert ws.receive() == "x a 1"
            ws.close()
            assert ws.end() == (1000, "")
        with open_ws(site, "/chat/x") as ws:
            ws.send("raise")
            assert ws.end()[0] == 1011
        with open_ws(site, "/both") as ws:
            assert ws.receive() == "socket"
            assert ws.end() == (1000, "")
        assert ask(site, "GET", "/both").content == b"page"
        assert ask(site, "GET", "/chat/x").status == 426
        assert ask(site, "GET", "/chat/x?key=wrong", **FIELDS).status == 403
        assert ask(site, "GET", "/nothing", **FIELDS).status == 404
        assert ask(site, "GET", "/chat/x", **FIELDS, Origin="http://evil.example").status == 403
        assert ask(site, "POST", "/both").header("allow") == "GET, HEAD, OPTIONS"
        assert [str(error) for error in ended if error and not isinstance(error, HTTPError)] == ["oops"]
        assert len(site.log.of("error")) == 1


def test_errors_of_handshakes_have_handlers_too() -> None:
    app = App()

    @app.error(403)
    def forbidden(req: Request, error: Any) -> dict[str, str]:
        return {"why": error.text}

    @app.websocket("/")
    def chat(ws: Any) -> None: ...

    with serve(app) as site:
        answer = ask(site, "GET", "/", **FIELDS, Origin="http://evil.example")
        assert answer.status == 403
        assert "origins" in json.loads(answer.content)["why"]


def test_a_websocket_wants_its_parameters() -> None:
    with pytest.raises(TypeError, match="must take the WebSocket as its first parameter"):
        App().websocket("/")(lambda: None)
    with pytest.raises(TypeError, match="has no parameter room"):
        App().websocket("/<room>")(lambda ws: None)
