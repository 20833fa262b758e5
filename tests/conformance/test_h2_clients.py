"""Real clients of HTTP/2: curl, nghttp, h2load, httpx and a browser."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gevent import subprocess

from hemi.web.request import Request
from hemi.web.response import Response
from tests.running import require_program
from tests.tlskit import Authority
from tests.webkit import Site, config, running

BIG = os.urandom(1 << 16) * 40


def app(req: Request, resp: Response) -> bool:
    if req.path == "/big":
        resp.send(BIG)
    elif req.path == "/trailers":
        resp.early_hints("</a.css>; rel=preload")
        resp.echo("with trailers\n")
        resp.add_trailer("x-sum", "12")
    elif req.method == "POST":
        size = 0
        for piece in req:
            size += len(piece)
        resp.send_json({"size": size, "version": req.version})
    elif req.path == "/page":
        resp.send(
            "<!doctype html><title>t</title><p id=p></p><script>"
            "Promise.all([...Array(20).keys()].map(n => fetch('/' + n).then(r => r.text()))).then(all =>"
            " document.getElementById('p').textContent ="
            " performance.getEntriesByType('navigation')[0].nextHopProtocol + ' ' + all.join(' '))</script>"
        )
    else:
        resp.send(f"{req.version} {req.path}")
    return True


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str]]:
    folder = tmp_path_factory.mktemp("t")
    authority = Authority(folder)
    identity = authority.issue("localhost", "localhost")
    mapping = config(app)
    mapping["servers"]["main"]["tls"] = True
    mapping["webapps"]["app"] |= {
        "tls_certificate": identity.certificate,
        "tls_private_key": identity.private_key,
    }
    with running(mapping, str(folder)) as site:
        yield site, str(authority.file)
        assert not site.log.of("error")


@pytest.fixture(scope="module")
def plain() -> Iterator[Site]:
    with running(config(app, address="127.0.0.3:0")) as site:
        yield site
        assert not site.log.of("error")


def run(*command: str) -> str:
    """What a program prints."""
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    return str(done.stdout.decode("latin-1"))


def url(site: Site, path: str = "/", scheme: str = "http") -> str:
    host = "localhost" if scheme == "https" else site.address.rpartition(":")[0]
    return f"{scheme}://{host}:{site.address.rpartition(':')[2]}{path}"


def test_curl_over_tls(secure: tuple[Site, str], tmp_path: Path) -> None:
    curl = require_program("curl", "curl")
    site, ca = secure
    says = ["--cacert", ca, "-sS", "-w", " HTTP/%{http_version} %{http_code}"]
    assert run(curl, "--http2", *says, url(site, "/x", "https")) == "20 /x HTTP/2 200"
    assert run(curl, "--http1.1", *says, url(site, "/x", "https")) == "11 /x HTTP/1.1 200"
    two = [url(site, "/a", "https"), url(site, "/b", "https")]
    assert run(curl, "--http2", "--cacert", ca, "-sS", "-w", "%{num_connects} ", *two) == "20 /a1 20 /b0 "
    big = tmp_path / "big"
    run(curl, "--http2", "-sS", "--cacert", ca, "-o", str(big), url(site, "/big", "https"))
    assert big.read_bytes() == BIG


def test_curl_by_prior_knowledge(plain: Site, tmp_path: Path) -> None:
    curl = require_program("curl", "curl")
    h2 = [curl, "--http2-prior-knowledge", "-sS"]
    assert run(*h2, url(plain, "/x")) == "20 /x"
    upload = tmp_path / "upload"
    upload.write_bytes(BIG)
    said = json.loads(run(*h2, "--data-binary", f"@{upload}", url(plain)))
    assert said == {"size": len(BIG), "version": 20}
    said = json.loads(run(*h2, "-d", "x", url(plain)))
    assert said["size"] == 1
    assert "x-sum: 12" in run(*h2, "-v", "--stderr", "-", url(plain, "/trailers"))
    head = run(*h2, "-I", url(plain, "/big"))
    assert head.startswith("HTTP/2 200") and f"content-length: {len(BIG)}" in head
    # There is no upgrade: it is answered as if it had not been asked for.
    assert run(curl, "--http2", "-sS", "-w", " %{http_version}", url(plain)) == "11 / 1.1"


def test_nghttp(plain: Site) -> None:
    nghttp = require_program("nghttp", "nghttp2-client")
    said = run(nghttp, "-nv", "-m", "20", "--window-bits=16", url(plain, "/big"))
    assert said.count(":status: 200") == 20
    assert "SETTINGS_ENABLE_CONNECT_PROTOCOL" in said or "UNKNOWN(0x08)" in said
    assert "x-sum: 12" in run(nghttp, "-v", url(plain, "/trailers"))
    assert ":status: 103" in run(nghttp, "-v", "--expect-continue", url(plain, "/trailers"))


def test_h2load(plain: Site) -> None:
    h2load = require_program("h2load", "nghttp2-client")
    for path, number in (("/x", 2000), ("/big", 50)):
        said = run(h2load, f"-n{number}", "-c4", "-m32", url(plain, path))
        assert re.search(rf"{number} succeeded, 0 failed, 0 errored, 0 timeout", said), said
        assert f"{number} 2xx" in said


HTTPX = """\
import httpx, sys
url, ca = sys.argv[1:]
with httpx.Client(http2=True, verify=__import__("ssl").create_default_context(cafile=ca), timeout=30) as client:
    for path in ("/x", "/y"):
        answer = client.get(url + path)
        print(answer.http_version, answer.text)
    print(len(client.get(url + "/big").content))
    print(client.post(url, content=b"x" * 300_000).json())
    print(client.post(url, content=iter([b"a" * 1000] * 50)).json())
    print(client.head(url + "/big").headers["content-length"])
"""


def test_httpx(secure: tuple[Site, str]) -> None:
    """In a process of its own, unpatched."""
    site, ca = secure
    said = run(sys.executable, "-c", HTTPX, url(site, "", "https"), ca).splitlines()
    size = str(len(BIG))
    assert said == [
        "HTTP/2 20 /x", "HTTP/2 20 /y", size, "{'size': 300000, 'version': 20}", "{'size': 50000, 'version': 20}", size
    ]  # fmt: skip


def test_a_browser(secure: tuple[Site, str], tmp_path: Path) -> None:
    chromium = require_program("chromium", "chromium")
    site, _ = secure
    said = run(
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
        "--ignore-certificate-errors", f"--user-data-dir={tmp_path}", "--virtual-time-budget=10000", "--dump-dom",
        url(site, "/page", "https"),
    )  # fmt: skip
    assert "h2 " + " ".join(f"20 /{number}" for number in range(20)) in said
