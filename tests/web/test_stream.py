"""The contract of streams: what every version of HTTP must offer to an exchange."""

from __future__ import annotations

import inspect

import pytest

from hemi.web.h1.conn import Server1Conn
from hemi.web.h1.stream import Server1Stream
from hemi.web.stream import ServerConn, ServerStream

VERBS = [name for name, value in vars(ServerStream).items() if inspect.isfunction(value) and name[0] != "_"]


@pytest.mark.parametrize("cls", [Server1Stream])
@pytest.mark.parametrize("verb", VERBS)
def test_all_verbs_are_there(cls: type, verb: str) -> None:
    wanted = inspect.signature(getattr(ServerStream, verb))
    offered = inspect.signature(getattr(cls, verb))
    assert list(wanted.parameters) == list(offered.parameters)


@pytest.mark.parametrize(("cls", "contract"), [(Server1Stream, ServerStream), (Server1Conn, ServerConn)])
def test_all_attributes_are_there(cls: type, contract: type) -> None:
    for name in inspect.get_annotations(contract):
        assert name in cls.__slots__ or hasattr(cls, name), name  # type: ignore[attr-defined]


def test_streams_have_no_dictionary() -> None:
    assert not hasattr(Server1Stream, "__dict__") or "__dict__" not in dir(Server1Stream)
