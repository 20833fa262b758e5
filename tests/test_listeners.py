"""Listening sockets: shared by address, with options, given back."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from hemi import listeners
from hemi.binding import ListenOptions
from hemi.errors import EnvError
from hemi.listeners import listen
from hemi.values import Addr


def address(text: str = "", host: str = "127.0.0.1") -> Addr:
    return Addr("", 0, text) if text else Addr(host, 0, "")


def test_listeners_are_shared_by_address(tmp_path: Path) -> None:
    where = address(str(tmp_path / "s"))
    one, other = listen(where, ListenOptions(), "a"), listen(where, ListenOptions(), "b")
    assert one is other and one.users == 2
    one.release()
    assert (tmp_path / "s").exists()
    other.release()
    assert not (tmp_path / "s").exists()


def test_port_0_is_each_owners_own() -> None:
    one, other, again = (listen(address(), ListenOptions(), owner) for owner in "aba")
    assert one is again and one is not other
    for listener in (one, other, again):
        listener.release()


def test_uds_mode_and_strangers(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = listen(address(str(path)), ListenOptions(uds_mode=0o600), "a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    path.write_text("somebody else's")
    listener.release()
    assert path.read_text() == "somebody else's"


def test_uds_in_use(tmp_path: Path) -> None:
    path = tmp_path / "s"
    other = socket.socket(socket.AF_UNIX)
    other.bind(str(path))
    other.listen(1)
    with pytest.raises(EnvError, match="in use"):
        listen(address(str(path)), ListenOptions(), "a")
    other.close()
    listen(address(str(path)), ListenOptions(), "a").release()
    assert not path.exists()


def test_unknown_owners(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match="no-such-user"):
        listen(address(str(tmp_path / "s")), ListenOptions(uds_user="no-such-user"), "a")


def test_options_of_sockets_in_use(tmp_path: Path) -> None:
    path = tmp_path / "s"
    before, after = ListenOptions(uds_mode=0o600), ListenOptions(uds_mode=0o666)
    first = listen(address(str(path)), before, "a")
    gone = listen(address(str(tmp_path / "t")), before, "a")
    (tmp_path / "t").unlink()
    listeners.wishes.clear()
    second = listen(address(str(path)), after, "a")
    listen(address(str(path)), before, "b")  # the first one counts
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "listening alone changes nothing"
    listen(address(str(tmp_path / "t")), after, "a")
    with pytest.raises(EnvError, match=r"cannot change /.*/t: No such file"):
        listeners.adjust_all()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "all or nothing"
    del listeners.wishes[gone.key]
    undo = listeners.adjust_all()
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    undo()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for listener in (first, second, second, gone, gone):
        listener.release()


def test_one_family_or_both() -> None:
    with_name = listen(address(host="::1"), ListenOptions(), "v6")
    both = listen(address(host=""), ListenOptions(), "both")
    option = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    assert with_name.sock.getsockopt(*option) == 1
    assert both.sock.getsockopt(*option) == 0
    assert "users=1" in repr(both)
    with_name.release()
    both.release()
