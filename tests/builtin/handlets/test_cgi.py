"""cgi with scripts of all kinds, good and bad: what they get, what becomes of what they do, and that they end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import psutil
import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi.errors import ConfigError
from tests.running import require_program
from tests.waiting import gone
from tests.webkit import Answer, Malformed, Site, config, load, running, until

SCRIPTS = {
    "env.cgi": f"#!{sys.executable} -S\nimport os, json\n"
    "print('Content-Type: application/json\\n\\n' + json.dumps([dict(os.environ), os.getcwd(), os.sys.argv]))\n",
    "cat.cgi": "#!/bin/sh\nprintf 'Content-Type: application/octet-stream\\n\\n'\nexec cat\n",
    "deaf.cgi": "#!/bin/sh\nexec <&-\nprintf 'Status: 413\\n\\nno'\n",
    "hello.cgi": "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\nhello'\n",
    "moved.cgi": "#!/bin/sh\nprintf 'Location: /sub/there.cgi?a=1\\n\\n'\n",
    "sub/there.cgi": '#!/bin/sh\nprintf "Content-Type: text/plain\\n\\n$REQUEST_METHOD $QUERY_STRING $PATH_INFO"\n',
    "fails.cgi": "#!/bin/sh\necho 'something is wrong' >&2\nexit 3\n",
    "late.cgi": "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\nexit 4\n",
    "garbage.cgi": "#!/bin/sh\necho garbage; echo; echo\n",
    "noisy.cgi": "#!/bin/sh\ni=0; while [ $i -lt 20000 ]; do echo line $i of many >&2; i=$((i+1)); done\n"
    "printf 'Content-Type: text/plain\\n\\nhello'\n",
    "hangs.cgi": "#!/bin/sh\ntrap '' TERM\nsleep 60 &\n"
    "echo $$ $! > $QUERY_STRING.part; mv $QUERY_STRING.part $QUERY_STRING\n"
    "while :; do wait; done\n",
    "half.cgi": "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhalf'\nsleep 60\n",
    "stream.cgi": "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\none'\n"
    "while [ ! -e $QUERY_STRING ]; do sleep 0.01; done\n"
    "printf two\n",
    "limits.cgi": "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nulimit -t; ulimit -v; ulimit -n; ulimit -f\n",
    "spin.cgi": "#!/bin/sh\nwhile :; do :; done\n",
    "plain.txt": "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\ninterpreted'\n",
    ".hidden.cgi": "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhidden'\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of scripts."""
    folder = tmp_path_factory.mktemp("cgi")
    for name, text in SCRIPTS.items():
        path = folder / "www" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644 if name.endswith(".txt") else 0o755)
    (folder / "outside.cgi").write_text(SCRIPTS["hello.cgi"])
    (folder / "outside.cgi").chmod(0o755)
    (folder / "www" / "leads_out.cgi").symlink_to(folder / "outside.cgi")
    (folder / "www" / "leads_in.cgi").symlink_to("hello.cgi")
    (folder / "www" / "broken.cgi").write_text("#!/nowhere/at/all\n")
    (folder / "www" / "broken.cgi").chmod(0o755)
    return folder / "www"


@contextmanager
def cgi(root: Path, **props: Any) -> Iterator[Site]:
    """A site of scripts; nothing may run behind its end."""
    mapping = config(rules=[{"handlets": [{"cgi": {"web_root": str(root), **props}}]}])
    with running(mapping, str(root.parent)) as site:
        yield site
    programs = site.stage.members["webapps"]["app"].rules[0].handlets[0].programs
    until(lambda: not programs.running)
    assert programs.waiting == 0
    me = psutil.Process()
    until(lambda: not [one for one in me.children() if gone(one.pid) and one.is_running()])  # zombies


def ask(site: Site, target: str, method: str = "GET", content: Any = None, **fields: str) -> Answer:
    with site.connect() as client:
        client.request(
            method, target, {name.replace("_", "-"): value for name, value in fields.items()}, content
        )
        return client.answer(method)


def problems(site: Site) -> list[str]:
    return [entry.message for entry in site.log.of("error", "cgi")]


def test_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "x")
    with cgi(root, params={"WHO": "$src_host"}) as site, site.connect() as client:
        client.request("POST", "/env.cgi/path/info?-s+a", {
            "Proxy": "evil", "X_Y": "dropped", "X-Y": "kept", "Authorization": "Basic YTpi", "X-!": "unnameable",
        }, b"12345")  # fmt: skip
        found, folder, argv = json.loads(client.answer().content)
    assert (folder, argv) == (str(root), [str(root / "env.cgi")])  # the query is no argument
    assert found["SCRIPT_NAME"] == "/env.cgi" and found["SCRIPT_FILENAME"] == str(root / "env.cgi")
    assert (found["PATH_INFO"], found["PATH_TRANSLATED"]) == ("/path/info", f"{root}/path/info")
    assert (found["QUERY_STRING"], found["CONTENT_LENGTH"], found["REQUEST_METHOD"]) == ("-s+a", "5", "POST")
    assert (found["HTTP_X_Y"], found["WHO"], found["DOCUMENT_ROOT"]) == ("kept", "127.0.0.1", str(root))
    assert not {"HTTP_PROXY", "HTTP_AUTHORIZATION", "SECRET_OF_THE_SERVER", "HTTP_X_!", "HOME"} & set(found)
    with cgi(root, pass_authorization=True) as site:
        found = json.loads(ask(site, "/env.cgi", authorization="Basic YTpi").content)[0]
        assert found["HTTP_AUTHORIZATION"] == "Basic YTpi"


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
@pytest.mark.parametrize("props", [{}, {"buffer_request": True}, {"stream_vague": True}])
def test_content(root: Path, size: int, props: dict[str, Any]) -> None:
    """cat answers while it reads: whoever only sends would wait for ever."""
    data = os.urandom(size)
    with cgi(root, **props) as site:
        for content in (data, [data[at : at + 5000] for at in range(0, size, 5000)]):
            with site.connect() as client:
                sender = gevent.spawn(client.request, "POST", "/cat.cgi", {}, content)
                assert client.answer().content == data
                sender.get(timeout=10)


def test_scripts_that_do_not_read(root: Path) -> None:
    with cgi(root) as site:
        answer = ask(site, "/deaf.cgi", "POST", b"x" * 200_000)
        assert (answer.status, answer.content) == (413, b"no")


def test_whole_answers_and_heads(root: Path) -> None:
    with cgi(root) as site:
        answer = ask(site, "/hello.cgi")
        assert (answer.content, answer.header("content-type")) == (b"hello", "text/plain")
        assert ask(site, "/hello.cgi", "HEAD").content == b""
        assert ask(site, "/moved.cgi", "POST", b"content").content == b"GET a=1 "


def test_streaming(root: Path, tmp_path: Path) -> None:
    with cgi(root) as site, site.connect() as client:
        client.request("GET", f"/stream.cgi?{tmp_path}/go")
        assert client.head()[1] == 200
        assert client.chunk() == b"one"
        (tmp_path / "go").touch()
        assert (client.chunk(), client.chunk()) == (b"two", b"")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/sub/there.cgi", 200), ("/sub/there.cgi/", 200), ("/sub", 404), ("/sub/", 404), ("/", 404),
        ("/none.cgi", 404),
        ("/.hidden.cgi", 404), ("/plain.txt", 403), ("/leads_in.cgi", 200), ("/leads_out.cgi", 403),
        ("/sub/..%2fhello.cgi", 200),
        ("/..%2foutside.cgi", 400), ("/%2e%2e/outside.cgi", 400), ("/x%5c..%5chello.cgi", 404),
        ("/hello.cgi/../../x", 400),
        ("/hello.cgi/.git/config", 200), ("/broken.cgi", 500),
    ],
)  # fmt: skip
def test_paths(root: Path, target: str, status: int) -> None:
    with cgi(root) as site:
        assert ask(site, target).status == status


def test_choices_of_scripts(root: Path) -> None:
    with cgi(root, index_file="hello.cgi") as site:
        assert ask(site, "/").content == b"hello"
        assert ask(site, "/sub/").status == 404
    with cgi(root, suffixes=[".txt"], interpreters={".txt": "/bin/sh"}) as site:
        assert ask(site, "/plain.txt").content == b"interpreted"
        assert ask(site, "/hello.cgi").status == 404
    with cgi(root, symlinks="never") as site:
        assert ask(site, "/leads_in.cgi").status == 403
    with cgi(root, symlinks="always") as site:
        assert ask(site, "/leads_out.cgi").status == 200


def test_one_program_for_all(root: Path) -> None:
    with cgi(
        root, program=str(root / "env.cgi"), args=["-x", "y"], script_name="/app", working_dir="/"
    ) as site:
        found, folder, argv = json.loads(ask(site, "/app/one/two").content)
        assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/app", "/one/two")
        assert (folder, argv[1:]) == ("/", ["-x", "y"])
        assert ask(site, "/apple").status == 404


@pytest.mark.parametrize(
    ("props", "problem"),
    [
        ({}, "needs web_root or program"),
        ({"program": "/nowhere"}, 'must be an executable file, not "/nowhere"'),
        ({"web_root": "/", "args": ["x"]}, "args and script_name are for a program"),
        ({"web_root": "/", "interpreters": {"php": "/bin/sh"}}, 'must be like .cgi, not "php"'),
        ({"web_root": "/", "index_file": "../x"}, "index_file must be the name of a file"),
    ],
)
def test_wrong_configurations(props: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(config(rules=[{"handlets": [{"cgi": props}]}]))
    assert problem in str(caught.value)


def test_scripts_that_fail(root: Path) -> None:
    with cgi(root) as site:
        assert ask(site, "/fails.cgi").status == 502
        until(lambda: len(problems(site)) == 2)
        lines = sorted(problems(site))
        assert (
            f"{root}/fails.cgi: head: it ends without a head; it exited with status 3: GET /fails.cgi"
            in lines[0]
        )
        assert lines[1] == f"{root}/fails.cgi: stderr: something is wrong"
        assert ask(site, "/garbage.cgi").status == 502
        assert ask(site, "/broken.cgi").status == 500
        assert ask(site, "/late.cgi").content == b"hello"
        until(lambda: any("exited with status 4" in one.message for one in site.log.of("warning", "cgi")))


def test_stderr_does_not_stop_a_script(root: Path) -> None:
    with cgi(root) as site:
        assert ask(site, "/noisy.cgi").content == b"hello"
        until(lambda: any("more lines" in line for line in problems(site)))
        assert len(problems(site)) == 101


def pids_in(path: Path) -> list[int]:
    until(path.exists)
    return [int(word) for word in path.read_text().split()]


def all_gone(pids: list[int]) -> bool:
    return all(map(gone, pids))


def test_a_timeout_kills_the_whole_group(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hemi.web.cgi.run.GRACE", 0.1)
    with cgi(root, head_timeout="300ms") as site:
        assert ask(site, f"/hangs.cgi?{tmp_path}/pids").status == 504
        until(lambda: all_gone(pids_in(tmp_path / "pids")))
        assert "head: the program does not answer in time" in problems(site)[0]


def test_a_client_that_leaves_kills_the_whole_group(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hemi.web.cgi.run.GRACE", 0.1)
    with cgi(root) as site:
        with site.connect() as client:
            client.request("GET", f"/hangs.cgi?{tmp_path}/pids")
            pids = pids_in(tmp_path / "pids")
        until(lambda: all_gone(pids))
        until(lambda: site.access)
        assert site.access[0].status == 499 and not problems(site)


def test_the_end_of_the_stage_kills_what_runs(root: Path, tmp_path: Path) -> None:
    with cgi(root) as site, site.connect() as client:
        client.request("GET", f"/hangs.cgi?{tmp_path}/pids")
        pids = pids_in(tmp_path / "pids")
    until(lambda: all_gone(pids))


def test_an_answer_that_stops_half_way(root: Path) -> None:
    with cgi(root, read_timeout="200ms") as site:
        with pytest.raises((Malformed, ConnectionResetError)):
            ask(site, "/half.cgi")
        assert "content: the program does not answer in time" in problems(site)[0]


def test_so_many_at_a_time(root: Path, tmp_path: Path) -> None:
    with cgi(root, max_processes=1, queue_size=1, queue_timeout="10s") as site:
        programs = site.stage.members["webapps"]["app"].rules[0].handlets[0].programs
        first = gevent.spawn(ask, site, f"/stream.cgi?{tmp_path}/go")
        until(lambda: programs.running)
        second = gevent.spawn(ask, site, "/hello.cgi")
        until(lambda: programs.waiting)
        answer = ask(site, "/hello.cgi")
        assert (answer.status, answer.header("retry-after")) == (503, "1")
        (tmp_path / "go").touch()
        assert first.get(timeout=10).content == b"onetwo"
        assert second.get(timeout=10).content == b"hello"
        assert "1 programs run already" in problems(site)[0]
    with cgi(root, max_processes=1, queue_timeout="50ms") as site, site.connect() as client:
        client.request("GET", f"/stream.cgi?{tmp_path}/never")
        assert client.head()[1] == 200
        assert ask(site, "/hello.cgi").status == 503


def test_limits(root: Path) -> None:
    require_program("prlimit", "util-linux")
    limits = {"max_cpu_time": "7s", "max_memory": "1G", "max_open_files": 64, "max_file_size": "1M"}
    with cgi(root, **limits) as site:
        assert ask(site, "/limits.cgi").content.split() == [b"7", b"1048576", b"64", b"2048"]
    with cgi(root, max_cpu_time="1s") as site:
        assert ask(site, "/spin.cgi").status == 502
        assert "it was killed by SIGKILL" in problems(site)[0]
