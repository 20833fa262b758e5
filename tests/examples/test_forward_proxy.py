"""The examples of forward proxies load, know their user, and go nowhere else."""

from __future__ import annotations

import base64
from pathlib import Path

from hemi.source import Dirs
from tests.forwardkit import read
from tests.running import Served
from tests.webkit import dial

TOP_DIR = Path(__file__).resolve().parents[2]


def example(name: str, port: int, tmp_path: Path) -> Served:
    text = (TOP_DIR / "conf" / "examples" / name).read_text()
    assert f"127.0.0.1:{port}" in text
    dirs = Dirs(str(TOP_DIR), str(tmp_path), str(tmp_path), str(tmp_path))
    return Served(text.replace(f'address: "127.0.0.1:{port}"', 'address: "127.0.0.1:0"'), dirs)


def test_socks_proxy(tmp_path: Path) -> None:
    served = example("socks_proxy.yaml", 1080, tmp_path)
    try:
        with dial(served.address()) as sock:
            sock.sendall(b"\5\1\2\1\4anna\5gorox\5\1\0\1\x7f\0\0\1\0\x50")
            assert read(sock, 6) == b"\5\2\1\0\5\2"
    finally:
        served.close()


def test_tunnel_proxy(tmp_path: Path) -> None:
    served = example("tunnel_proxy.yaml", 8443, tmp_path)
    password = base64.b64encode(b"anna:gorox")
    try:
        for fields, status in ((b"", b"407"), (b"Proxy-Authorization: Basic %b\r\n" % password, b"403")):
            with dial(served.address()) as sock:
                sock.sendall(b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: x\r\n%b\r\n" % fields)
                assert read(sock, 12) == b"HTTP/1.1 " + status
    finally:
        served.close()
