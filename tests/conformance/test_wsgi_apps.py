"""The WSGI matrix: what real frameworks do with PEP 3333, through a real server, seen by a real client (requests)."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bottle
import flask
import gevent
import pytest
import requests
import werkzeug
from werkzeug.debug import DebuggedApplication
from whitenoise import WhiteNoise

from tests import webkit
from tests.wsgikit import serve

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # they import cgi and pkg_resources
    import webob
    import webob.dec
    from pyramid.config import Configurator
    from pyramid.response import FileResponse, Response

pytestmark = [  # some of these frameworks leave temporary files to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

EXAMPLES = Path(__file__).resolve().parents[2] / "apps" / "examples"
TIMEOUT = 10
CONTENT = b"0123456789" * 30_000  # past every buffer


class Browser(requests.Session):
    """A client of one site, with cookies and keep-alive."""

    def __init__(self, site: webkit.Site) -> None:
        super().__init__()
        self.site = site
        self.trust_env = False

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        options.setdefault("timeout", TIMEOUT)
        return super().request(method, f"http://{self.site.address}{url}", *args, **options)


@contextmanager
def browsing(app: Any, **more: Any) -> Iterator[Browser]:
    """A browser of a site with this app, in the validator of wsgiref."""
    with serve(app, **more) as site, Browser(site) as browser:
        yield browser
        assert not site.log.of("error"), site.log.of("error")


def chunks(*pieces: bytes) -> Iterator[bytes]:
    yield from pieces


def check_whole(browser: Browser, path: str = "/") -> None:
    """GET and HEAD of a page that says hello, on one connection."""
    got = browser.get(path)
    assert (got.status_code, got.text) == (200, "hello")
    head = browser.head(path)
    assert head.status_code == 200 and not head.content
    assert head.headers.get("content-length", "5") == "5"


def check_echo(browser: Browser, path: str = "/echo", *, chunked: bool = True) -> None:
    """Content comes back as it went."""
    assert browser.post(path, data=CONTENT).content == CONTENT
    assert browser.post(path, data=b"").content == b""
    if chunked:
        assert browser.post(path, data=chunks(b"ab", b"c")).content == b"abc"


def check_upload(browser: Browser, path: str = "/upload") -> None:
    """Two files of a multipart form, one of them large."""
    files = {"small": ("a.txt", b"small"), "large": ("b.bin", CONTENT)}
    assert browser.post(path, files=files).json() == {"small": 5, "large": len(CONTENT)}


def check_stream(browser: Browser, path: str = "/stream") -> None:
    """A response in pieces, without a length."""
    with browser.get(path, stream=True) as got:
        assert got.headers.get("transfer-encoding") == "chunked"
        assert b"".join(got.iter_content(None)) == b"one two three"


# Flask and Werkzeug


def make_flask() -> flask.Flask:
    app = flask.Flask(__name__)
    app.secret_key = "for tests"

    @app.get("/")
    def home() -> str:
        return "hello"

    @app.post("/echo")
    def echo() -> bytes:
        return flask.request.get_data()

    @app.post("/upload")
    def upload() -> dict[str, int]:
        return {name: len(file.read()) for name, file in flask.request.files.items()}

    @app.get("/stream")
    def stream() -> flask.Response:
        return flask.Response(flask.stream_with_context(piece for piece in ("one ", "two ", "three")))

    @app.get("/file")
    def file() -> flask.Response:
        return flask.send_file(__file__, conditional=True)

    @app.get("/visits")
    def visits() -> str:
        flask.session["n"] = flask.session.get("n", 0) + 1
        return str(flask.session["n"])

    @app.get("/url/<path:rest>")
    def url(rest: str) -> dict[str, str]:
        return {"rest": rest, "self": flask.url_for("url", rest=rest, _external=True)}

    return app


def test_flask_pages_sessions_redirects() -> None:
    with browsing(make_flask()) as browser:
        check_whole(browser)
        assert [browser.get("/visits").text for _ in range(3)] == ["1", "2", "3"]
        assert browser.get("/nothing").status_code == 404
        assert browser.put("/").status_code == 405
        assert set(browser.options("/").headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


def test_flask_input() -> None:
    # Werkzeug relies on wsgi.input_terminated and calls read() without a size, which the validator does not know.
    with browsing(make_flask(), valid=False) as browser:
        check_echo(browser)
        check_upload(browser)


def test_flask_streams_and_files() -> None:
    whole = Path(__file__).read_bytes()
    for valid in (True, False):
        with browsing(make_flask(), valid=valid) as browser:
            check_stream(browser)
            got = browser.get("/file")
            assert got.content == whole and got.headers["content-length"] == str(len(whole))
            part = browser.get("/file", headers={"range": "bytes=10-19"})
            assert (part.status_code, part.content) == (206, whole[10:20])
            assert browser.get("/file", headers={"if-none-match": got.headers["etag"]}).status_code == 304


def test_flask_mounted_with_a_path_beyond_ascii() -> None:
    with browsing(make_flask(), properties={"script_name": "/app"}) as browser:
        got = browser.get("/app/url/caf%C3%A9/%E6%97%A5").json()
        assert got["rest"] == "café/日"
        assert got["self"].endswith("/app/url/caf%C3%A9/%E6%97%A5")


def test_flask_too_large_is_what_flask_says() -> None:
    app = make_flask()
    app.config["MAX_CONTENT_LENGTH"] = 1000
    with browsing(app) as browser:
        assert browser.post("/echo", data=CONTENT).status_code == 413


def test_flask_failing_is_a_500_and_the_connection_stays() -> None:
    app = make_flask()
    app.logger.disabled = True
    app.add_url_rule("/fail", view_func=lambda: 1 / 0, endpoint="fail")
    with browsing(app) as browser:
        assert browser.get("/fail").status_code == 500
        check_whole(browser)


def test_werkzeug_debugger_is_not_ours_to_enable() -> None:
    app = make_flask()
    app.logger.disabled = True
    app.add_url_rule("/fail", view_func=lambda: 1 / 0, endpoint="fail")
    assert not app.debug
    with browsing(app) as browser:
        text = browser.get("/fail?__debugger__=yes&cmd=resource&f=style.css").text
        assert "ZeroDivisionError" not in text and "debugger" not in text.lower()
    assert not isinstance(app.wsgi_app, DebuggedApplication)


def test_werkzeug_requests_and_responses() -> None:
    @werkzeug.Request.application
    def app(request: werkzeug.Request) -> werkzeug.Response:
        if request.path == "/echo":
            return werkzeug.Response(request.get_data())
        if request.path == "/upload":
            sizes = ", ".join(f'"{name}": {len(file.read())}' for name, file in request.files.items())
            return werkzeug.Response("{" + sizes + "}", mimetype="application/json")
        if request.path == "/stream":
            return werkzeug.Response(iter(["one ", "two ", "three"]))
        return werkzeug.Response("hello")

    with browsing(app, valid=False) as browser:
        check_whole(browser)
        check_echo(browser)
        check_upload(browser)
        check_stream(browser)


# Bottle


def make_bottle() -> bottle.Bottle:
    app = bottle.Bottle()

    @app.get("/")
    def home() -> str:
        return "hello"

    @app.post("/echo")
    def echo() -> Any:
        return bottle.request.body

    @app.post("/upload")
    def upload() -> dict[str, int]:
        return {name: len(file.file.read()) for name, file in bottle.request.files.items()}

    @app.get("/stream")
    def stream() -> Iterator[str]:
        yield "one "
        yield "two "
        yield "three"

    @app.get("/file")
    def file() -> Any:
        return bottle.static_file(Path(__file__).name, root=str(Path(__file__).parent))

    return app


def test_bottle() -> None:
    whole = Path(__file__).read_bytes()
    with browsing(make_bottle(), valid=False, properties={"buffer_chunked": True}) as browser:
        check_whole(browser)
        check_echo(browser)
        check_upload(browser)
        check_stream(browser)
        assert browser.get("/file").content == whole
        part = browser.get("/file", headers={"range": "bytes=-10"})
        assert (part.status_code, part.content) == (206, whole[-10:])


# Pyramid and WebOb


def make_pyramid() -> Any:
    with Configurator() as config:
        views = {
            "/": lambda request: Response("hello"),
            "/echo": lambda request: Response(request.body),
            "/upload": lambda request: Response(
                json_body={name: len(part.file.read()) for name, part in request.POST.items()}
            ),
            "/stream": lambda request: Response(app_iter=iter([b"one ", b"two ", b"three"])),
            "/file": lambda request: FileResponse(__file__, request=request, content_type="text/plain"),
        }
        for number, (path, view) in enumerate(views.items()):
            config.add_route(str(number), path)
            config.add_view(view, route_name=str(number))
        return config.make_wsgi_app()


def test_pyramid() -> None:
    for valid in (True, False):
        with browsing(make_pyramid(), valid=valid) as browser:
            check_whole(browser)
            check_echo(browser)
            check_stream(browser)
            assert browser.get("/file").content == Path(__file__).read_bytes()


@pytest.mark.filterwarnings("ignore:'cgi' is deprecated")
def test_pyramid_uploads() -> None:
    with browsing(make_pyramid(), valid=False) as browser:
        check_upload(browser)


def test_webob() -> None:
    @webob.dec.wsgify
    def app(request: webob.Request) -> webob.Response:
        if request.method == "POST":
            return webob.Response(request.body)
        response = webob.Response("hello", conditional_response=True)
        response.md5_etag()
        return response

    with browsing(app) as browser:
        check_whole(browser)
        check_echo(browser)
        etag = browser.get("/").headers["etag"]
        assert browser.get("/", headers={"if-none-match": etag}).status_code == 304
        assert browser.get("/", headers={"range": "bytes=1-2"}).content == b"el"


# WhiteNoise


def test_whitenoise(tmp_path: Path) -> None:
    (tmp_path / "site.css").write_bytes(CONTENT)
    app = WhiteNoise(make_flask(), root=str(tmp_path), prefix="static/")
    with browsing(app, valid=False) as browser:
        check_whole(browser)
        got = browser.get("/static/site.css")
        assert got.content == CONTENT and got.headers["content-type"].startswith("text/css")
        part = browser.get("/static/site.css", headers={"range": "bytes=5-8"})
        assert (part.status_code, part.content) == (206, b"5678")
        modified = got.headers["last-modified"]
        assert browser.get("/static/site.css", headers={"if-modified-since": modified}).status_code == 304


# Django: the example that comes with Gorox


@pytest.fixture(scope="module")
def django_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webkit.Site]:
    folder = tmp_path_factory.mktemp("django")
    env = {"DJANGO_DATABASE": str(folder / "db.sqlite3"), "ADMIN_PASSWORD": "for tests"}
    handlet = {
        "wsgi": {
            "app": "django_site.wsgi:create()",
            "python_path": [str(EXAMPLES)],
            "env": env,
            "buffer_chunked": True,
        }
    }
    # An address of its own: listening sockets are shared by address, and this one lives through other tests.
    with webkit.serve(rules=[{"handlets": [handlet]}], address="127.0.0.2:0") as site:
        yield site


@pytest.fixture
def django(django_site: webkit.Site) -> Iterator[Browser]:
    with Browser(django_site) as browser:
        yield browser


def test_django_pages_and_sessions(django: Browser) -> None:
    assert [django.get("/").text.split()[4] for _ in range(3)] == ["1", "2", "3"]
    assert django.get("/nothing").status_code == 404


def test_django_uploads_streams_and_files(django: Browser) -> None:
    check_upload(django)
    multipart = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nabc\r\n--x--\r\n'
    sent = django.post(
        "/upload",
        data=chunks(multipart[:20], multipart[20:]),
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    assert sent.json() == {"a": 3}
    assert django.get("/stream").text.count("line") == 1000
    assert django.get("/source").content == (EXAMPLES / "django_site" / "views.py").read_bytes()


def test_django_admin_login_with_its_static_files(django: Browser) -> None:
    login = django.get("/admin/login/?next=/admin/")
    assert login.status_code == 200 and "/static/admin/css/base.css" in login.text
    css = django.get("/static/admin/css/base.css")
    assert css.status_code == 200 and css.headers["content-type"].startswith("text/css")
    data = {
        "username": "admin",
        "password": "for tests",
        "csrfmiddlewaretoken": django.cookies["csrftoken"],
        "next": "/admin/",
    }
    answer = django.post("/admin/login/", data=data, allow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (302, "/admin/")
    page = django.get("/admin/")
    assert page.status_code == 200 and "Site administration" in page.text
    assert django.get("/admin/auth/user/").text.count("admin@example.com") >= 1
    answer = django.post("/admin/login/", data={**data, "csrfmiddlewaretoken": "forged"})
    assert answer.status_code == 403


def test_django_serves_many_at_a_time(django_site: webkit.Site) -> None:
    def visit(_: int) -> int:
        with Browser(django_site) as browser:
            browser.get("/")
            return int(browser.get("/").text.split()[4])

    jobs = [gevent.spawn(visit, number) for number in range(10)]
    gevent.joinall(jobs, timeout=30)
    assert [job.value for job in jobs] == [2] * 10
    assert not django_site.log.of("error")


# Blocking code


def test_code_that_blocks_in_a_framework_stops_nobody() -> None:
    app = make_flask()
    free = threading.Event()

    @app.get("/wait")
    def wait() -> str:
        free.wait(TIMEOUT)
        time.sleep(0)
        return "waited"

    with browsing(app) as browser:
        waiting = gevent.spawn(requests.get, f"http://{browser.site.address}/wait", timeout=TIMEOUT)
        check_whole(browser)
        free.set()
        assert waiting.get(timeout=TIMEOUT).text == "waited"


def test_the_other_examples(tmp_path: Path) -> None:
    tour = {"wsgi": {"app": "wsgi_tour:app", "python_path": [str(EXAMPLES / "wsgi")], "script_name": "/tour"}}
    site = {
        "wsgi": {
            "app": "flask_site:create()",
            "python_path": [str(EXAMPLES / "flask_site")],
            "env": {"FLASK_SECRET_KEY": "for tests"},
        }
    }
    hello = {"app": {"app": "hello:app", "python_path": [str(EXAMPLES / "hello")]}}
    with webkit.serve(rules=[{"handlets": [tour]}]) as served, Browser(served) as browser:
        assert "/tour/source" in browser.get("/tour/").text
        assert browser.get("/tour/source").content == (EXAMPLES / "wsgi" / "wsgi_tour.py").read_bytes()
        check_echo(browser, "/tour/echo")
    with webkit.serve(rules=[{"handlets": [site]}]) as served, Browser(served) as browser:
        assert [browser.get("/").text.split()[4] for _ in range(2)] == ["1", "2"]
        check_upload(browser)
        assert browser.get("/events").text.count("data") == 3
    with webkit.serve(rules=[{"handlets": [hello]}]) as served, Browser(served) as browser:
        assert "hello, you" in browser.get("/?name=you").text
        made = browser.post("/notes", json={"text": "sleep"})
        assert (made.status_code, made.headers["location"]) == (201, "/notes/2")
        assert browser.get("/notes/2").json() == {"id": 2, "text": "sleep"}
        assert [browser.delete("/notes/2").status_code for _ in range(2)] == [204, 404]
    assert "debug" not in sys.modules["flask_site"].__dict__
