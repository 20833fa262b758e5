"""WebSockets of a real instance: reloads leave them alone, the end is told, with the websockets package as client."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.running import GoroxProcess, until

CONFIG = """\
drain_timeout: 4s
access_log: {target: stdout, format: '"$request" $status $bytes_received $bytes_sent'}
webapps: {a: {hostnames: ["*"], rules: [socklets: echo]}}
servers: {main: {type: httpx_server, address: "127.0.0.1:0", webapps: [a]}}
"""


def test_reload_and_quit(gorox: Callable[..., GoroxProcess]) -> None:
    process = gorox(CONFIG)
    with connect(f"ws://{process.address}/old", compression=None) as old:
        old.send("x")
        assert old.recv(10) == "x"
        process.signal(signal.SIGHUP)
        until(lambda: "reload" in process.log())
        with connect(f"ws://{process.address}/new", compression=None) as new:
            for ws in (new, old):
                ws.send("behind the reload")
                assert ws.recv(10) == "behind the reload"
            with pytest.raises(ConnectionClosed) as ended:
                old.recv(20)
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code == 1001, "three seconds before the old stage is cut"
            new.send("still")
            assert new.recv(10) == "still"
            process.signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as ended:
                new.recv(5)
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code == 1001, "at once, when nothing follows"
    assert process.wait(10) == 0
    out = process.out.read_text()
    assert '"GET /old HTTP/1.1" 101 ' in out
    assert '"GET /new HTTP/1.1" 101 ' in out


def test_a_foreign_client(gorox: Callable[..., GoroxProcess]) -> None:
    """Messages, fragments, pings, compression, many at a time."""
    process = gorox(CONFIG)

    async def talk(number: int) -> None:
        async with connect_async(f"ws://{process.address}/{number}", max_size=None) as ws:
            for message in ("a", "ü" * 1000, b"x" * 70_000, "y" * 900_000, b"", ""):
                await ws.send(message)
                assert await ws.recv() == message
            await ws.send(["a", "b" * 1000, "c"])
            assert await ws.recv() == "a" + "b" * 1000 + "c"
            assert await (await ws.ping()) >= 0
        assert ws.close_code == 1000

    async def all_of_them() -> None:
        await asyncio.gather(*[talk(number) for number in range(10)])

    asyncio.run(all_of_them())
    assert not process.log()
