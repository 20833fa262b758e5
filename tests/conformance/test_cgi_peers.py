"""FastCGI, SCGI, uwsgi and CGI with the programs that people use: php-fpm, uWSGI, flup, git."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hemi.builtin  # noqa: F401  registers its components
from tests.running import require_program
from tests.webkit import Answer, Site, config, running, until

HERE = Path(__file__).parent
PHP = HERE / "php"

POOL = """
[global]
error_log = {folder}/fpm.log
daemonize = no
[www]
{user}
listen = {folder}/fpm.sock
pm = static
pm.max_children = 8
catch_workers_output = no
clear_env = yes
php_admin_value[session.save_path] = {folder}
php_admin_value[upload_tmp_dir] = {folder}
php_admin_value[post_max_size] = 32M
php_admin_value[upload_max_filesize] = 32M
php_admin_flag[log_errors] = on
php_admin_value[error_log] =
"""


class Peer:
    """A program that runs for the tests of this module."""

    def __init__(self, command: list[str], folder: Path, ready: Callable[[], bool], **options: Any) -> None:
        self.folder = folder
        self.log = folder / "peer.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **options
            )
        try:
            until(lambda: ready() or self.process.poll() is not None, 20)
            assert self.process.poll() is None, self.log.read_text()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


def php_fpm() -> str:
    """The program, whose name has the version of PHP."""
    for version in ("8.2", "8.3", "8.4", "8.1", "8.5"):
        if Path(f"/usr/sbin/php-fpm{version}").exists():
            return f"/usr/sbin/php-fpm{version}"
    return require_program("php-fpm", "php-fpm")


@pytest.fixture(scope="module")
def fpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    program = php_fpm()
    folder = tmp_path_factory.mktemp("fpm")
    root = os.geteuid() == 0
    (folder / "fpm.conf").write_text(POOL.format(folder=folder, user="user = root" if root else ""))
    command = [program, "-F", "-n", "-y", str(folder / "fpm.conf"), *(["-R"] if root else [])]
    # -n: without the machine's php.ini, and so without its modules but those that are built in.
    peer = Peer(command, folder, (folder / "fpm.sock").exists)
    yield peer
    peer.stop()


def php_site(
    fpm: Peer,
    proxy: dict[str, Any] | None = None,
    backend: dict[str, Any] | None = None,
    address: str = "127.0.0.2:0",  # of its own: sites of the same address and name share a socket
) -> Any:
    """A site whose paths are scripts of the PHP app."""
    return running(
        config(
            address=address,
            rules=[
                {
                    "handlets": [
                        {"fcgi_proxy": {"to_backend": "php", "web_root": str(PHP), "split_path": r"^(.+?\.php)(/.*)$"}
                         | (proxy or {})}
                    ]
                }
            ],
            stage={
                "backends": {
                    "php": {"type": "fcgi_backend", "nodes": [{"address": str(fpm.folder / "fpm.sock")}]}
                    | (backend or {})
                }
            },
        ),
        str(fpm.folder),
    )  # fmt: skip


@pytest.fixture(scope="module", params=["closing", "keeping"])
def php(request: pytest.FixtureRequest, fpm: Peer) -> Iterator[Site]:
    keep = request.param == "keeping"
    with php_site(fpm, backend={"keep_conn": keep, "idle_conns": 1}, address="127.0.0.1:0") as site:
        yield site


def ask(site: Site, target: str, method: str = "GET", content: Any = None, **fields: str) -> Answer:
    with site.connect() as client:
        pairs = {name.replace("_", "-"): value for name, value in fields.items()}
        client.request(method, target, pairs, content)
        return client.answer(method)


def test_php_variables(php: Site) -> None:
    answer = ask(
        php, "/info.php/extra/path?a=1&b=%20", x_test="yes", x_bad_name="kept", proxy="evil", cookie="c=d"
    )
    assert (answer.status, answer.header("content-type")) == (200, "application/json")
    found = json.loads(answer.content)
    server = found["server"]
    assert {name: server.get(name) for name in (
        "GATEWAY_INTERFACE", "REQUEST_METHOD", "QUERY_STRING", "REQUEST_URI", "SCRIPT_NAME", "SCRIPT_FILENAME",
        "PATH_INFO", "DOCUMENT_ROOT", "SERVER_PROTOCOL", "SERVER_NAME", "SERVER_ADDR", "SERVER_PORT", "REMOTE_ADDR",
        "HTTP_HOST", "HTTP_X_TEST", "REQUEST_SCHEME", "REDIRECT_STATUS", "PHP_SELF",
    )} == {
        "GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "GET", "QUERY_STRING": "a=1&b=%20",
        "REQUEST_URI": "/info.php/extra/path?a=1&b=%20", "SCRIPT_NAME": "/info.php",
        "SCRIPT_FILENAME": str(PHP / "info.php"), "PATH_INFO": "/extra/path", "DOCUMENT_ROOT": str(PHP),
        "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": "a.example", "SERVER_ADDR": "127.0.0.1", "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "a.example", "HTTP_X_TEST": "yes", "REQUEST_SCHEME": "http",
        "REDIRECT_STATUS": "200", "PHP_SELF": "/info.php/extra/path",
    }  # fmt: skip
    assert "HTTP_PROXY" not in server and "HTTPS" not in server
    assert found["get"] == {"a": "1", "b": " "} and found["cookie"] == {"c": "d"}


def test_php_fields_with_underscores_are_dropped(php: Site) -> None:
    with php.connect() as client:
        client.request("GET", "/info.php", {"X_User": "root", "X-User": "guest"})
        assert json.loads(client.answer().content)["server"]["HTTP_X_USER"] == "guest"


@pytest.mark.parametrize("size", [0, 1, 5000, 70_000, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_php_content(php: Site, size: int, chunked: bool) -> None:
    data = os.urandom(size)
    pieces = [data[at : at + 9000] for at in range(0, size, 9000)]
    answer = ask(
        php, "/info.php", "POST", pieces if chunked else data, content_type="application/octet-stream"
    )
    found = json.loads(answer.content)
    assert (found["length"], found["body"]) == (size, hashlib.md5(data).hexdigest())
    assert found["server"].get("CONTENT_LENGTH") == str(size)


def test_php_content_that_is_buffered(fpm: Peer) -> None:
    data = os.urandom(500_000)
    with php_site(fpm, {"buffer_request": True, "buffer_response": True}) as site:
        found = json.loads(ask(site, "/info.php", "PUT", data).content)
        assert found["body"] == hashlib.md5(data).hexdigest()
        answer = ask(site, "/behave.php?do=large")
        assert answer.header("content-length") == str(400 * 8192) and len(answer.content) == 400 * 8192


def test_php_uploads(php: Site) -> None:
    data = os.urandom(2_000_000)
    head = (
        b'--xx\r\nContent-Disposition: form-data; name="title"\r\n\r\nholiday\r\n'
        b'--xx\r\nContent-Disposition: form-data; name="photo"; filename="a b.jpg"\r\n\r\n'
    )
    content = head + data + b"\r\n--xx--\r\n"
    answer = ask(php, "/upload.php", "POST", content, content_type="multipart/form-data; boundary=xx")
    assert json.loads(answer.content) == {
        "files": {"photo": ["a b.jpg", 0, len(data), hashlib.md5(data).hexdigest()]},
        "post": {"title": "holiday"},
    }


def test_php_sessions(php: Site) -> None:
    first = ask(php, "/session.php")
    cookie = (first.header("set-cookie") or "").partition(";")[0]
    assert first.content == b"1" and cookie.startswith("PHPSESSID=")
    assert [ask(php, "/session.php", cookie=cookie).content for _ in range(3)] == [b"2", b"3", b"4"]


def test_php_behaviours(php: Site) -> None:
    answer = ask(php, "/behave.php?do=redirect")
    assert (answer.status, answer.header("location")) == (302, "/elsewhere?a=1")
    assert ask(php, "/behave.php?do=missing")[1:4:2] == (404, b"no such thing")
    answer = ask(php, "/behave.php?do=fields")
    assert [value for name, value in answer.fields if name == "x-two"] == ["2", "3"]
    assert len([value for name, value in answer.fields if name == "set-cookie"]) == 2
    answer = ask(php, "/behave.php?do=large", "HEAD")
    assert (answer.status, answer.content) == (200, b"")
    answer = ask(php, "/behave.php?do=large")
    assert len(answer.content) == 400 * 8192 and answer.content[8192:8194] == b"BB"
    assert ask(php, "/absent.php").status == 404


def test_php_streams(php: Site, tmp_path: Path) -> None:
    with php.connect() as client:
        client.request("GET", f"/behave.php?do=stream&until={tmp_path}/go")
        assert client.head()[1] == 200
        assert client.chunk() == b"one\n"
        (tmp_path / "go").touch()
        assert client.chunk() == b"two\n"


def test_php_stderr_is_in_the_error_log(php: Site) -> None:
    assert ask(php, "/behave.php?do=log").content == b"logged"
    lines = [entry.message for entry in php.log.of("error", "fcgi_proxy")]
    assert any("stderr: PHP message: first" in line and "fpm.sock" in line for line in lines), lines
    assert any("second" in line for line in lines)


def test_php_is_let_go_when_the_client_leaves(fpm: Peer, tmp_path: Path) -> None:
    with php_site(fpm, backend={"max_conns": 1}) as site:
        with site.connect() as client:
            client.request("GET", f"/behave.php?do=hang&note={tmp_path}/note")
            until((tmp_path / "note").exists)
        until(lambda: not site.stage.members["backends"]["php"].exchanges)
        until(lambda: site.access and site.access[-1].status == 499)
        assert site.stage.members["backends"]["php"].roster.nodes[0].failures == 0


def test_php_that_takes_too_long(fpm: Peer, tmp_path: Path) -> None:
    with php_site(fpm, {"head_timeout": "300ms"}) as site:
        assert ask(site, f"/behave.php?do=hang&note={tmp_path}/note").status == 504
        [entry] = site.log.of("error", "fcgi_proxy")
        assert "fpm.sock: head: " in entry.message


def test_php_sends_files(fpm: Peer, tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_text("the file")
    with php_site(fpm, {"send_files": {"/protected/": str(tmp_path)}}) as site:
        answer = ask(site, "/behave.php?do=accel")
        assert (answer.status, answer.content) == (200, b"the file")
        assert answer.header("content-type") == "text/x-secret;charset=UTF-8"
        assert answer.header("content-disposition") == "attachment" and answer.header("etag")
        assert ask(site, "/behave.php?do=accel", range="bytes=4-7").content == b"file"
    with php_site(fpm) as site:
        answer = ask(site, "/behave.php?do=accel")
        assert (answer.content, answer.header("x-accel-redirect")) == (b"", None)
        assert "send_files allows none" in site.log.of("warning", "fcgi_proxy")[0].message


def test_php_front_controller(fpm: Peer) -> None:
    with php_site(
        fpm, {"script_filename": str(PHP / "info.php"), "params": {"APP_ENV": "test", "WHO": "$src_host"}}
    ) as site:
        server = json.loads(ask(site, "/any/thing?x=1").content)["server"]
        assert (server["SCRIPT_NAME"], server["REQUEST_URI"]) == ("/info.php", "/any/thing?x=1")
        assert (server["APP_ENV"], server["WHO"]) == ("test", "127.0.0.1")


def test_php_script_must_exist(fpm: Peer) -> None:
    with php_site(fpm, {"must_exist": True}) as site:
        assert ask(site, "/info.php").status == 200
        assert ask(site, "/none.php").status == 404
        assert site.stage.members["backends"]["php"].roster.nodes[0].leases == 1


def test_php_large_parameters(php: Site) -> None:
    fields = {f"x-large-{number}": "v" * 7000 for number in range(4)}
    with php.connect() as client:
        client.request("GET", "/info.php?" + "q" * 4000, fields)
        server = json.loads(client.answer().content)["server"]
    assert [server[f"HTTP_X_LARGE_{number}"] for number in range(4)] == ["v" * 7000] * 4


def test_php_one_connection_after_another(php: Site) -> None:
    with php.connect() as client:
        for number in range(20):
            client.request("GET", f"/info.php?n={number}")
            assert json.loads(client.answer().content)["get"] == {"n": str(number)}
    node = php.stage.members["backends"]["php"].roster.nodes[0]
    assert len(node.pool.idle) == (1 if php.stage.members["backends"]["php"].keep_conn else 0)
    assert node.in_flight == 0


# git


@pytest.fixture
def git_site(tmp_path: Path) -> Iterator[Site]:
    """An empty repository behind git's own CGI program."""
    git = require_program("git", "git")
    backend = Path(run_git(git, "--exec-path", folder=tmp_path).strip()) / "git-http-backend"
    assert backend.exists(), f"{backend} is missing (Debian, Ubuntu: apt install git)"
    run_git(git, "init", "-q", "--bare", "shop.git", folder=tmp_path)
    run_git(git, "-C", "shop.git", "config", "http.receivepack", "true", folder=tmp_path)
    params = {"GIT_PROJECT_ROOT": str(tmp_path), "GIT_HTTP_EXPORT_ALL": "1"}
    handlet = {"cgi": {"program": str(backend), "script_name": "/git", "params": params}}
    with running(config(address="127.0.0.2:0", rules=[{"handlets": [handlet]}]), str(tmp_path)) as site:
        yield site


def run_git(git: str, *arguments: str, folder: Path) -> str:
    """Runs git with nothing of the user's configuration."""
    env = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@a.example",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@a.example",
    }  # fmt: skip
    done = subprocess.run(
        [git, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("size", [1000, 5_000_000])
def test_git_is_cloned_and_pushed_to(git_site: Site, tmp_path: Path, size: int) -> None:
    url = f"http://{git_site.address}/git/shop.git"
    run_git("git", "clone", "-q", url, "one", folder=tmp_path)
    (tmp_path / "one" / "file").write_bytes(os.urandom(size))  # a large push is chunked
    run_git("git", "add", "file", folder=tmp_path / "one")
    run_git("git", "commit", "-q", "-m", "first", folder=tmp_path / "one")
    run_git("git", "push", "-q", "origin", "HEAD:main", folder=tmp_path / "one")
    run_git("git", "clone", "-q", "-b", "main", url, "two", folder=tmp_path)
    assert (tmp_path / "two" / "file").read_bytes() == (tmp_path / "one" / "file").read_bytes()
    assert ask(git_site, "/git/none.git/info/refs?service=git-upload-pack").status == 404


# uWSGI and flup

APP = """
import hashlib, json

def application(environ, start_response):
    size = int(environ.get("CONTENT_LENGTH") or 0)
    content = environ["wsgi.input"].read(size) if size else b""
    if environ["PATH_INFO"] == "/large":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x" * 65536] * 50
    found = {name: value for name, value in environ.items() if isinstance(value, str)}
    found["md5"] = hashlib.md5(content).hexdigest()
    start_response("202 Taken", [("Content-Type", "application/json"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")])
    return [json.dumps(found).encode()]
"""

FLUP = """
import sys
from flup.server.scgi import WSGIServer
from app import application
WSGIServer(application, scriptName="", bindAddress=("127.0.0.1", int(sys.argv[1])), loggingLevel=50).run()
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module", params=["uwsgi", "scgi", "fcgi", "flup"])
def python_app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site in front of a WSGI app: in uWSGI by each of the three protocols that it speaks, and in flup by SCGI."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "app.py").write_text(APP)
    port, protocol = free_port(), request.param
    if protocol == "flup":
        protocol = "scgi"
        (folder / "serve.py").write_text(FLUP)
        command = [sys.executable, "serve.py", str(port)]
    else:
        program = require_program("uwsgi", "uwsgi-core uwsgi-plugin-python3")
        option = {"uwsgi": "--uwsgi-socket", "scgi": "--scgi-socket", "fcgi": "--fastcgi-socket"}[protocol]
        command = [
            program, "--plugin", "python3", option, f"127.0.0.1:{port}", "--wsgi-file", "app.py", "--master",
            "--buffer-size", "65535", "--disable-logging", "--die-on-term", "--need-app",
        ]  # fmt: skip
    peer = Peer(command, folder, lambda: listens(port), cwd=folder)
    try:
        stage = {
            "backends": {"app": {"type": f"{protocol}_backend", "nodes": [{"address": f"127.0.0.1:{port}"}]}}
        }
        handlet = {f"{protocol}_proxy": {"to_backend": "app", "script_name": ""}}
        mapping = config(address="127.0.0.4:0", rules=[{"handlets": [handlet]}], stage=stage)
        with running(mapping, str(folder)) as site:
            yield site
    finally:
        peer.stop()


@pytest.mark.parametrize("size", [0, 10, 100_000, 2_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_python_apps(python_app: Site, size: int, chunked: bool) -> None:
    data = os.urandom(size)
    pieces = [data[at : at + 9000] for at in range(0, size, 9000)]
    answer = ask(python_app, "/caf%C3%A9?a=1", "POST", pieces if chunked else data, x_test="yes")
    found = json.loads(answer.content)
    assert answer.status == 202 and found["md5"] == hashlib.md5(data).hexdigest()
    assert (found["SCRIPT_NAME"], found["PATH_INFO"], found["QUERY_STRING"]) == ("", "/cafÃ©", "a=1")
    assert (found["REQUEST_METHOD"], found["HTTP_X_TEST"], found["REMOTE_ADDR"]) == (
        "POST",
        "yes",
        "127.0.0.1",
    )
    assert [value for name, value in answer.fields if name == "set-cookie"] == ["a=b", "c=d"]


def test_large_answers_of_python_apps(python_app: Site) -> None:
    assert ask(python_app, "/large").content == b"x" * 65536 * 50
    assert ask(python_app, "/large", "HEAD").status == 200
