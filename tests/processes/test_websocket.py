"""WebSockets of a real instance: reloads leave them alone, the end is told, with foreign clients."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import websocket
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


PROXY = """\
drain_timeout: 20s
backends: {{up: {{type: http_backend, nodes: [{{address: "{node}"}}]}}}}
webapps: {{a: {{hostnames: ["*"], rules: [socklets: [{{ws_proxy: {{to_backend: up}}}}]]}}}}
servers: {{main: {{type: httpx_server, address: "127.0.0.1:0", webapps: [a]}}}}
"""


def test_the_end_of_a_proxy(gorox: Callable[..., GoroxProcess]) -> None:
    node = gorox(CONFIG)
    process = gorox(PROXY.format(node=node.address))
    with connect(f"ws://{process.address}/", compression=None) as ws:
        ws.send("x")
        assert ws.recv(10) == "x"
        process.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as ended:
            ws.recv(10)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1001
    assert process.wait(10) == 0, "long before the end of the drain"
    assert "cut" not in process.log()


def test_the_websockets_package(gorox: Callable[..., GoroxProcess]) -> None:
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


def test_the_websocket_client_package(gorox: Callable[..., GoroxProcess]) -> None:
    process = gorox(CONFIG)
    ws = websocket.create_connection(f"ws://{process.address}/", timeout=10)
    try:
        for message in ("a", "ü" * 70_000):
            ws.send(message)
            assert ws.recv() == message
        ws.send_binary(b"\0" * 1000)
        assert ws.recv() == b"\0" * 1000
        ws.ping("are you there")
        assert ws.recv_data_frame(control_frame=True)[1].data == b"are you there"
    finally:
        ws.close()
    assert not process.log()


NODE = """\
const WebSocket = require('ws');
const ws = new WebSocket(process.argv[2], {perMessageDeflate: true});
const messages = ['a', 'ü'.repeat(70000), 'y'.repeat(500000)];
let next = 0;
ws.on('open', () => ws.ping('are you there'));
ws.on('pong', data => { console.log('pong', data.toString()); ws.send(messages[0]); });
ws.on('message', (data, isBinary) => {
  if (isBinary || data.toString() !== messages[next]) { console.log('wrong'); process.exit(1); }
  if (++next < messages.length) ws.send(messages[next]);
  else ws.close(4000, 'enough');
});
ws.on('close', (code, reason) => console.log(ws.extensions, code));
ws.on('error', error => { console.log(error); process.exit(1); });
"""


def test_the_ws_package_of_node(gorox: Callable[..., GoroxProcess], tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:  # not among what .ci/run installs: Debian's npm has hundreds of packages
        pytest.skip("there is no Node.js")
    done = subprocess.run(
        [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(tmp_path), "ws@8"],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("the package ws cannot be installed")
    process = gorox(CONFIG)
    (tmp_path / "client.js").write_text(NODE)
    done = subprocess.run(
        [node, "client.js", f"ws://{process.address}/"],
        capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["pong are you there", "permessage-deflate 4000"]
    assert not process.log()
