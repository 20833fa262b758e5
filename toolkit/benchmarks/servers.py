"""The servers that are measured: how each is started, and on which ports it does which work.

All run on one core, one process each (nginx: one worker), and all run at the same time: those that are not being
measured wait.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

TOP_DIR = Path(__file__).resolve().parents[2]
BOOT_TIMEOUT = 10.0
IDLE_CONNS = 10_000


class BenchError(Exception):
    """Why nothing can be measured, in one line or with the output of what failed."""


@dataclass
class Server:
    """A server under test. `ports` has a port for each work that it does."""

    name: str
    note: str
    ports: dict[str, int]
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    output: Path = field(default_factory=Path)

    def start(self, folder: Path, core: int | None) -> None:
        """Starts it on a core and waits until all its ports answer. Raises BenchError with its output."""
        self.output = folder / f"{self.name.replace(' ', '-')}.out"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [*pinned(core), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=TOP_DIR,
                env={**os.environ, "PYTHONPATH": str(TOP_DIR)},
                start_new_session=True,
            )
        deadline = time.monotonic() + BOOT_TIMEOUT
        while not all(_listens(port) for port in self.ports.values()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise BenchError(f"{self.name} is not up:\n{self.output.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends it and whatever it started."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self.process = None

    def memory(self) -> int:
        """The resident bytes of its processes, shared ones counted once."""
        assert self.process is not None
        root = psutil.Process(self.process.pid)
        total = 0
        for process in [root, *root.children(recursive=True)]:
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total


def pinned(core: int | None) -> list[str]:
    """The prefix of a command that keeps it on a core; None: wherever it likes."""
    return [] if core is None else ["taskset", "-c", str(core)]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ports(*works: str) -> dict[str, int]:
    return {work: _free_port() for work in works}


def find_program(name: str) -> str | None:
    """The path of a program of this Python's environment or of the system."""
    return shutil.which(
        name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    )


def make_files(folder: Path) -> None:
    """Makes what is served below a folder: files, and a certificate."""
    public = folder / "public"
    public.mkdir()
    (public / "1k.txt").write_bytes(b"x" * 1024)
    (public / "10m.bin").write_bytes(os.urandom(1 << 20) * 10)
    make = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if make.returncode:
        raise BenchError(f"openssl made no certificate: {make.stderr}")
    ssl.create_default_context(cafile=str(folder / "cert.pem"))


def gorox(folder: Path) -> Server:
    """Gorox, with the access log written to a file."""
    ports = _ports("handlet", "return", "wsgi", "flask", "files", "tls")
    config = folder / "gorox.yaml"
    config.write_text(f"""\
extensions: [toolkit.benchmarks.handlets]
access_log: {{target: {folder}/gorox-access.log, format: combined}}
drain_timeout: 1s
keepalive_timeout: 10m
keepalive_requests: 100000000
webapps:
  handlet: {{hostnames: ["*"], rules: [handlets: bench_hello]}}
  return: {{hostnames: ["*"], rules: [{{return_code: 200, return_text: "hello, world!"}}]}}
  wsgi: {{hostnames: ["*"], rules: [handlets: [{{wsgi: {{app: "toolkit.benchmarks.apps:hello"}}}}]]}}
  flask: {{hostnames: ["*"], rules: [handlets: [{{wsgi: {{app: "toolkit.benchmarks.apps:flask_hello"}}}}]]}}
  files: {{hostnames: ["*"], web_root: {folder}/public, rules: [handlets: static]}}
  tls:
    hostnames: ["*"]
    tls_certificate: {folder}/cert.pem
    tls_private_key: {folder}/key.pem
    rules: [handlets: bench_hello]
servers:
""")
    with config.open("a") as more:
        for work, port in ports.items():
            tls = ", tls: true" if work == "tls" else ""
            more.write(
                f'  {work}: {{type: httpx_server, address: "127.0.0.1:{port}", webapps: [{work}],'
                f" max_concurrent_conns: {IDLE_CONNS * 2}{tls}}}\n"
            )
    command = [
        sys.executable,
        str(TOP_DIR / "bin" / "gorox"),
        "--config",
        str(config),
        "--top-dir",
        str(folder),
    ]
    return Server("gorox", "access log to a file", ports, command)


def nginx(folder: Path) -> Server:
    """Nginx, one worker, answering from its configuration where the others run code."""
    ports = _ports("return", "files", "tls")
    config = folder / "nginx.conf"
    config.write_text(f"""\
user root; worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
worker_rlimit_nofile {IDLE_CONNS * 4};
events {{ worker_connections {IDLE_CONNS * 2}; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_timeout 600s; keepalive_requests 100000000;
  default_type text/plain; client_body_temp_path {folder}/nb; proxy_temp_path {folder}/np;
  fastcgi_temp_path {folder}/nf; uwsgi_temp_path {folder}/nu; scgi_temp_path {folder}/ns;
  open_file_cache max=100 inactive=60s;
  server {{ listen 127.0.0.1:{ports["return"]}; location / {{ return 200 "hello, world!"; }} }}
  server {{ listen 127.0.0.1:{ports["files"]}; root {folder}/public; }}
  server {{
    listen 127.0.0.1:{ports["tls"]} ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;  # nginx's own default since 1.23.4: a TLS 1.2 session resumes without any ECDH
    location / {{ return 200 "hello, world!"; }}
  }}
}}
""")
    # Every job that runs code is compared with nginx's constant answer.
    ports |= dict.fromkeys(("handlet", "wsgi", "flask"), ports["return"])
    program = find_program("nginx") or ""
    return Server(
        "nginx", "`return 200`, no log", ports, [program, "-e", f"{folder}/nginx.log", "-c", str(config)]
    )


def _python_peer(
    name: str, note: str, app_works: dict[str, str], command: Callable[[int, str], list[str]]
) -> list[Server]:
    """A server that serves one app: one process for each app, named alike."""
    made = []
    for app, works in app_works.items():
        port = _free_port()
        made.append(
            Server(
                name,
                note,
                dict.fromkeys(works.split(), port),
                command(port, f"toolkit.benchmarks.apps:{app}"),
            )
        )
    return made


_APPS = {"hello": "handlet wsgi", "flask_hello": "flask"}


def granian(folder: Path) -> list[Server]:
    """Granian: one worker, its WSGI interface; and with TLS."""
    base = [
        find_program("granian") or "",
        "--interface",
        "wsgi",
        "--workers",
        "1",
        "--host",
        "127.0.0.1",
        "--no-log",
    ]
    made = _python_peer("Granian", "WSGI, no log", _APPS, lambda port, app: [*base, "--port", str(port), app])
    port = _free_port()
    tls = [
        "--ssl-certificate",
        f"{folder}/cert.pem",
        "--ssl-keyfile",
        f"{folder}/key.pem",
        "--port",
        str(port),
    ]
    return [
        *made,
        Server("Granian", "WSGI, no log", {"tls": port}, [*base, *tls, "toolkit.benchmarks.apps:hello"]),
    ]


def gunicorn(folder: Path) -> list[Server]:
    """Gunicorn: one gevent worker."""
    base = [
        find_program("gunicorn") or "",
        "-k",
        "gevent",
        "-w",
        "1",
        "--keep-alive",
        "600",
        "--no-control-socket",
    ]
    return _python_peer(
        "gunicorn", "gevent worker, no log", _APPS, lambda port, app: [*base, "-b", f"127.0.0.1:{port}", app]
    )


def uvicorn(folder: Path) -> list[Server]:
    """Uvicorn: uvloop and httptools, an ASGI app."""
    base = [find_program("uvicorn") or "", "--no-access-log", "--log-level", "warning", "--lifespan", "off"]
    return _python_peer(
        "uvicorn",
        "ASGI, no log",
        {"hello_asgi": "handlet"},
        lambda port, app: [*base, "--port", str(port), app],
    )


def waitress(folder: Path) -> list[Server]:
    """Waitress: four threads, as it comes."""
    base = [find_program("waitress-serve") or "", "--connection-limit=1000"]
    return _python_peer(
        "waitress", "4 threads, no log", _APPS, lambda port, app: [*base, f"--listen=127.0.0.1:{port}", app]
    )


def pywsgi(folder: Path) -> list[Server]:
    """gevent.pywsgi."""
    base = [sys.executable, "-m", "toolkit.benchmarks.pywsgi"]
    return _python_peer("gevent.pywsgi", "no log", _APPS, lambda port, app: [*base, str(port), app])


# The peers: the name, the program that must be there and its package, and what makes the servers.
PEERS: tuple[tuple[str, str, str, Callable[[Path], list[Server]]], ...] = (
    ("nginx", "nginx", "apt install nginx-light", lambda folder: [nginx(folder)]),
    ("Granian", "granian", "pip install granian", granian),
    ("gunicorn", "gunicorn", "pip install gunicorn", gunicorn),
    ("uvicorn", "uvicorn", "pip install uvicorn uvloop", uvicorn),
    ("waitress", "waitress-serve", "pip install waitress", waitress),
    ("gevent.pywsgi", "python", "pip install gevent", pywsgi),
)


@contextlib.contextmanager
def running(
    folder: Path, work: str, core: int | None, without: frozenset[str] = frozenset()
) -> Iterator[list[Server]]:
    """Runs gorox and all peers that can do a work, and stops them all at the end, whatever happens."""
    servers = [gorox(folder)]
    for name, program, _, make in PEERS:
        if name not in without and find_program(program):
            servers += [server for server in make(folder) if work in server.ports]
    try:
        for server in servers:
            server.start(folder, core)
        yield servers
    finally:
        for server in servers:
            server.stop()
