"""The control client against leaders that misbehave; with good ones it is tested in test_cmdui."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gevent
import pytest

from hemi.errors import EnvError
from hemi.procmgr import keyfile
from hemi.procmgr.client import Client, Refused
from hemi.procmgr.messages import Decoder, encode

KEY = "a" * 64


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Somebody at a port, who serves one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(5)
                serve(sock)

        task = gevent.spawn(accept)
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        task.join(5)


def welcome(sock: socket.socket) -> None:
    """What a leader does until an operator is in."""
    hello = Decoder().feed(sock.recv(4096))[0]["hello"]
    sock.sendall(encode({"nonce": "n" * 16, "proof": keyfile.prove(KEY, "leader", hello, "n" * 16)}))
    sock.recv(4096)
    sock.sendall(encode({"welcome": 7, "version": "1"}))


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(EnvError, match=r"nobody listens at .*: is gorox running"):
        Client.connect(target, KEY)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no message of gorox"),
        (encode({"nonce": 5}), "does not know the key"),
        (encode({"nonce": "n", "proof": "p"}), "does not know the key"),
        (encode({}), "does not know the key"),
    ],
)
def test_strangers_at_the_port(answer: bytes, message: str) -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(answer)

    with listening(serve) as target, pytest.raises(EnvError, match=message):
        Client.connect(target, KEY)


def test_a_leader_that_says_nothing() -> None:
    def serve(sock: socket.socket) -> None:
        while sock.recv(4096):
            pass

    with listening(serve) as target, pytest.raises(EnvError, match="does not answer"):
        Client.connect(target, KEY, patience=0.2)


def test_a_refusal_says_why() -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(encode({"error": "not now"}))

    with listening(serve) as target, pytest.raises(Refused, match="not now"):
        Client.connect(target, KEY)


def test_a_leader_that_dies_amid_an_answer() -> None:
    def serve(sock: socket.socket) -> None:
        welcome(sock)
        sock.recv(4096)
        sock.sendall(encode({"answer": {}})[:-1])

    with (
        listening(serve) as target,
        Client.connect(target, KEY) as client,
        pytest.raises(EnvError, match="closed the connection"),
    ):
        client.call("pids")


def test_its_end_is_waited_for() -> None:
    def serve(sock: socket.socket) -> None:
        welcome(sock)

    with listening(serve) as target, Client.connect(target, KEY) as client:
        assert (client.pid, client.version) == (7, "1")
        assert client.wait_end(5)
