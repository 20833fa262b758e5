"""Instances under load: a leader with workers in a folder of its own, told what to do by goroxctl."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from toolkit.benchmarks import wrk
from toolkit.benchmarks.servers import TOP_DIR, BenchError, Server, _ports

GOROX = str(TOP_DIR / "bin" / "gorox")
GOROXCTL = str(TOP_DIR / "bin" / "goroxctl")


class Instance:
    """A leader with workers, of a folder of its own."""

    def __init__(self, folder: Path, workers: int, core: int | None = None, **stage: str) -> None:
        self.folder = folder / f"instance{random.randrange(1 << 30)}"
        self.folder.mkdir()
        self.ports = _ports("plain", "tls", "stream", "leak")
        config = self.folder / "gorox.yaml"
        lines = [f"{name}: {value}\n" for name, value in {"drain_timeout": "10s", **stage}.items()]
        config.write_text(f"""\
extensions: [toolkit.benchmarks.handlets]
{"".join(lines)}keepalive_requests: 100000000
access_log: {{target: {self.folder}/access.log, format: combined}}
webapps:
  plain: {{hostnames: ["*"], rules: [handlets: bench_hello]}}
  stream: {{hostnames: ["*"], rules: [handlets: bench_stream]}}
  leak: {{hostnames: ["*"], rules: [handlets: bench_leak]}}
  tls:
    hostnames: ["*"]
    tls_certificate: {folder}/cert.pem
    tls_private_key: {folder}/key.pem
    rules: [handlets: bench_hello]
servers:
""")
        with config.open("a") as more:
            for name, port in self.ports.items():
                tls = ", tls: true" if name == "tls" else ""
                more.write(
                    f'  {name}: {{type: httpx_server, address: "127.0.0.1:{port}", webapps: [{name}]{tls}}}\n'
                )
        command = [
            GOROX, "--config", str(config), "--top-dir", str(self.folder), "--workers", str(workers),
            "--cmdui", str(self.folder / "cmdui"), "--allow-root",
        ]  # fmt: skip
        self.server = Server("gorox", "", self.ports, command)
        self.core = core

    def url(self, name: str) -> str:
        """Where one of its servers is."""
        return f"{'https' if name == 'tls' else 'http'}://127.0.0.1:{self.ports[name]}/"

    def tell(self, *order: str) -> str:
        """Gives an order, waits until it is carried out, and returns the answer. Raises BenchError when it is not."""
        where = ["--top-dir", str(self.folder), "--target", str(self.folder / "cmdui")]
        done = subprocess.run(
            [GOROXCTL, *order, *where], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise BenchError(
                f"goroxctl {' '.join(order)} failed: {done.stdout}{done.stderr}{self.log()[-3000:]}"
            )
        return done.stdout

    def workers(self) -> list[int]:
        """The process ids of the workers that are ready."""
        found = json.loads(self.tell("pids", "--json"))["answer"]["workers"]
        return [worker["pid"] for worker in found if worker["state"] == "ready"]

    def await_workers(self, count: int) -> list[int]:
        """Waits until so many are ready."""
        deadline = time.monotonic() + 30
        while len(found := self.workers()) < count:
            if time.monotonic() > deadline:
                raise BenchError(f"there are no {count} workers after 30 s:\n{self.log()}")
            time.sleep(0.1)
        return found

    def log(self) -> str:
        """What the leader has said."""
        return self.server.output.read_text(errors="replace")


@contextlib.contextmanager
def instance(folder: Path, workers: int, core: int | None = None, **stage: str) -> Iterator[Instance]:
    """Runs an instance with all its workers, and ends it."""
    one = Instance(folder, workers, core, **stage)
    one.server.start(one.folder, core)
    try:
        one.await_workers(workers)
        yield one
    finally:
        with contextlib.suppress(BenchError):
            one.tell("stop")
        one.server.stop()


@contextlib.contextmanager
def loading(urls: dict[str, int], seconds: int, close: bool | None = None) -> Iterator[list[wrk.Run]]:
    """Loads URLs over so many connections each; what it came to is in the list at the end.

    `close` says whether each request has a connection of its own; None: half of the loads are so.
    """
    loads = []
    runs: list[wrk.Run] = []
    try:
        for url, conns in urls.items():
            for closes in (False, True) if close is None else (close,):
                fields = ["-H", "connection: close"] if closes else []
                command = ["wrk", "-t1", f"-c{conns}", f"-d{seconds}s", "--timeout", "10s", *fields, url]
                loads.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        yield runs
        for one in loads:
            runs.append(wrk.parse(one.communicate(timeout=seconds + 30)[0]))
    finally:
        for one in loads:
            if one.poll() is None:
                one.kill()
                one.wait(10)
