"""The suite `proxy`: gorox, nginx and HAProxy in front of one upstream, which is an nginx on the core of the load."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from toolkit.benchmarks.servers import TOP_DIR, Server, _ports, find_program
from toolkit.benchmarks.works import BROWSER_HEAD, Work

WORKS: dict[str, Work] = {
    "proxied": Work("proxied hello", "proxied"),
    "proxiedhead": Work("proxied hello, a browser's 12-field head", "proxied", fields=BROWSER_HEAD),
    "proxied10m": Work("proxied 10 MiB", "proxied", "/10m.bin", figure="bytes_per_s"),
}

KEPT = 256
"""How many idle connections each may keep to the upstream."""

_NGINX = """\
user root; worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_timeout 600s; keepalive_requests 100000000;
  default_type text/plain; client_body_temp_path {folder}/{name}b; proxy_temp_path {folder}/{name}p;
  fastcgi_temp_path {folder}/{name}f; uwsgi_temp_path {folder}/{name}u; scgi_temp_path {folder}/{name}s;
  {rest}
}}
"""


def _nginx(folder: Path, name: str, note: str, ports: dict[str, int], rest: str) -> Server:
    config = folder / f"{name}.conf"
    config.write_text(_NGINX.format(folder=folder, name=name, rest=rest))
    command = [find_program("nginx") or "", "-e", f"{folder}/{name}.log", "-c", str(config)]
    return Server(name, note, ports, command)


def upstream(folder: Path) -> Server:
    """What all of them proxy to."""
    ports = _ports("upstream")
    rest = f"""server {{
    listen 127.0.0.1:{ports["upstream"]}; root {folder}/public;
    location = / {{ return 200 "hello, world!"; }}
  }}"""
    return _nginx(folder, "upstream", "", ports, rest)


def nginx(folder: Path, port: int) -> Server:
    """Nginx with proxy_pass and kept connections."""
    ports = _ports("proxied")
    rest = f"""upstream up {{ server 127.0.0.1:{port}; keepalive {KEPT}; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{ports["proxied"]};
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}"""
    return _nginx(folder, "nginx", "proxy_pass with keepalive, no log", ports, rest)


def haproxy(folder: Path, port: int) -> Server:
    """HAProxy, one thread."""
    ports = _ports("proxied")
    config = folder / "haproxy.cfg"
    config.write_text(f"""\
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 60s
  http-reuse always
frontend front
  bind 127.0.0.1:{ports["proxied"]}
  default_backend back
backend back
  server up 127.0.0.1:{port} pool-max-conn {KEPT}
""")
    return Server("haproxy", "no log", ports, [find_program("haproxy") or "", "-db", "-f", str(config)])


def gorox(folder: Path, port: int) -> Server:
    """Gorox, with the access log written to a file."""
    ports = _ports("proxied")
    config = folder / "gorox-proxy.yaml"
    config.write_text(f"""\
access_log: {{target: {folder}/gorox-access.log, format: combined}}
drain_timeout: 1s
keepalive_timeout: 10m
keepalive_requests: 100000000
backends:
  up: {{type: http_backend, idle_conns: {KEPT}, nodes: [{{address: "127.0.0.1:{port}"}}]}}
webapps:
  proxied: {{hostnames: ["*"], rules: [handlets: [{{http_proxy: {{to_backend: up}}}}]]}}
servers:
  main: {{type: httpx_server, address: "127.0.0.1:{ports["proxied"]}", webapps: [proxied]}}
""")
    program = str(TOP_DIR / "bin" / "gorox")
    command = [sys.executable, program, "--config", str(config), "--top-dir", str(folder)]
    return Server("gorox", "access log to a file", ports, command)


PEERS = (("nginx", "apt install nginx", nginx), ("haproxy", "apt install haproxy", haproxy))


@contextlib.contextmanager
def running(
    folder: Path, server_core: int | None, load_core: int | None, without: frozenset[str]
) -> Iterator[list[Server]]:
    """Runs the upstream, gorox and the peers, and stops them all at the end."""
    origin = upstream(folder)
    servers: list[Server] = []
    try:
        origin.start(folder, load_core)
        servers.append(gorox(folder, origin.ports["upstream"]))
        for name, _, make in PEERS:
            if name not in without and find_program(name):
                servers.append(make(folder, origin.ports["upstream"]))
        for server in servers:
            server.start(folder, server_core)
        yield servers
    finally:
        for server in [*servers, origin]:
            server.stop()
