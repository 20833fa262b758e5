"""Certificates of listeners: their files, and which is shown to whom."""

from __future__ import annotations

from pathlib import Path

from hemi.source import Dirs
from tests.net.kit import Net, problems, untrusting
from tests.tlskit import Authority

TEXT = """
servers:
  echo:
    type: echo_server
    address: "127.0.0.1:0"
    tls: true
    tls_next_protos: [echo, other]
    certificates:
"""


def subject(net: Net, name: str | None) -> bytes:
    with net.connect("echo") as sock, untrusting("echo").wrap_socket(sock, server_hostname=name) as secure:
        assert secure.selected_alpn_protocol() == "echo"
        return secure.getpeercert(binary_form=True) or b""


def test_by_name(dirs: Dirs, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    text = TEXT
    for name in ("a.example", "b.example", "*.c.example"):
        one = authority.issue(name)
        text += f'      - {{certificate: {one.certificate}, private_key: {one.private_key}, hostnames: ["{name}"]}}\n'
    net = Net(text, dirs)
    try:
        shown = {
            name: subject(net, name)
            for name in ("a.example", "b.example", "x.c.example", "other.example", None)
        }
    finally:
        net.served.close()
    assert len({shown[name] for name in ("a.example", "b.example", "x.c.example")}) == 3
    assert shown["other.example"] == shown[None] == shown["a.example"]


def test_the_star_is_for_the_rest(dirs: Dirs, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, two = authority.issue("a.example"), authority.issue("b.example")
    net = Net(
        f"{TEXT}      - {{certificate: {one.certificate}, private_key: {one.private_key}, hostnames: [a.example]}}\n"
        f"      - {{certificate: {two.certificate}, private_key: {two.private_key}}}\n",
        dirs,
    )
    try:
        assert subject(net, None) == subject(net, "b.example") != subject(net, "a.example")
    finally:
        net.served.close()


def test_problems(dirs: Dirs, tmp_path: Path) -> None:
    one = Authority(tmp_path).issue("a.example")
    assert "cannot be read" in problems(f"{TEXT}      - {{certificate: missing.pem}}\n", dirs)
    assert "must be a PEM file with a private key" in problems(
        f"{TEXT}      - {{certificate: {one.certificate}}}\n", dirs
    )
    twice = f"      - {{certificate: {one.certificate}, private_key: {one.private_key}}}\n" * 2
    assert 'must not have two for the host name "*"' in problems(TEXT + twice, dirs)
