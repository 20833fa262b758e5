"""Row 17: out of descriptors. The server runs in a process of its own, whose limit is low."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.subprocess import PIPE, Popen

from tests.webkit import Client, dial, until

TOP_DIR = Path(__file__).resolve().parents[2]

PROGRAM = """
import tests.patching
import json, resource, sys
import gevent
from hemi.acceptor import Acceptor
from tests.webkit import serve

resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
tries = {"accept": 0, "resume": 0}
accept, resume = Acceptor._accept, Acceptor._resume

def counting_accept(self):
    tries["accept"] += 1
    accept(self)

def counting_resume(self):
    tries["resume"] += 1
    resume(self)

Acceptor._accept, Acceptor._resume = counting_accept, counting_resume

def app(req, resp):
    if req.path == "/tries":
        warnings = [entry.message for entry in site.log.of("warning", "gate")]
        errors = [entry.message for entry in site.log.of("error")]
        with open("/dev/null"):  # the reserve leaves room for files
            resp.send_json({**tries, "conns": len(site.conns), "warnings": warnings, "errors": errors})
    else:
        resp.send(b"hello")
    return True

with serve(app) as site:
    print(site.address, flush=True)
    gevent.sleep(60)
"""


@contextmanager
def process() -> Iterator[str]:
    """The address of a server with 100 descriptors."""
    running = Popen([sys.executable, "-c", PROGRAM], cwd=TOP_DIR, stdout=PIPE, stderr=subprocess.STDOUT)
    try:
        assert running.stdout is not None
        with gevent.Timeout(20):
            line = running.stdout.readline().decode().strip()
        assert line.startswith("127.0.0.1:"), line + running.stdout.read().decode()
        yield line
    finally:
        running.kill()
        running.wait()
        if running.stdout is not None:
            running.stdout.close()


def tries(client: Client) -> dict[str, Any]:
    client.request("GET", "/tries")
    found: dict[str, Any] = json.loads(client.answer().content)
    return found


@pytest.mark.slow
def test_accepting_pauses_and_resumes() -> None:
    with process() as address, Client(dial(address)) as first:
        assert tries(first)["conns"] == 1
        clients = []
        for _ in range(120):  # the kernel takes them all; the server accepts what it can
            client = Client(dial(address))
            client.request()
            clients.append(client)
        until(lambda: tries(first)["warnings"])
        before = tries(first)
        assert 40 < before["conns"] < 100 - 20  # a reserve stays free
        gevent.sleep(1.0)
        after = tries(first)
        # No busy loop: it looks ten times a second at the most, and does not try to accept.
        assert after["accept"] == before["accept"]
        assert after["resume"] - before["resume"] <= 20
        assert after["warnings"] == before["warnings"] and len(after["warnings"]) == 1
        assert "pauses" in after["warnings"][0]

        served = clients[:30]
        for client in served:
            assert client.answer().content == b"hello"
            client.close()
        # Those who waited get their turn, and all are answered by and by.
        for client in clients[30:]:
            assert client.answer().content == b"hello"
            client.close()
        with Client(dial(address)) as another:
            another.request()
            assert another.answer().content == b"hello"
        until(lambda: tries(first)["conns"] == 1)
        assert tries(first)["errors"] == []
