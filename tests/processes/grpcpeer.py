"""A server and a client of gRPC (grpcio), each in a process that nothing has patched; started by test_grpc.py.

grpcpeer.py node [FILES...]            prints its port, then a line for each call that was cancelled
grpcpeer.py client TARGET NAME         runs one of the scenarios below, and prints what came of it as JSON
grpcpeer.py secure-client TARGET CA NAME
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

SERVICE = "tests.Service"
PEBBLE, ROCK = b"x" * 100, b"r" * 200_000
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


# The server


def say(*words: Any) -> None:
    print(*words, flush=True)


def unary(request: bytes, context: Any) -> bytes:
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-first", metadata.get("x-ask", "none")), ("x-blob-bin", b"\0\xff")))
    context.set_trailing_metadata((("x-last", "z"), ("x-te", str(metadata.get("te")))))
    return request[::-1]


def left(request: bytes, context: Any) -> bytes:
    return str(context.time_remaining()).encode()


def fail(request: bytes, context: Any) -> bytes:
    context.set_trailing_metadata((("x-why", "so"),))
    context.abort(grpc.StatusCode.NOT_FOUND, "ungültig: 100%")
    return b""


def fail_late(request: bytes, context: Any) -> Any:
    yield b"one"
    context.abort(grpc.StatusCode.DATA_LOSS, "lost")


def down(request: bytes, context: Any) -> Any:
    for number in range(int(request)):
        yield ROCK + str(number).encode()


def up(requests: Any, context: Any) -> bytes:
    count = size = 0
    for request in requests:
        count += 1
        size += len(request)
    return f"{count} {size}".encode()


def both(requests: Any, context: Any) -> Any:
    for request in requests:
        yield request + b"!"


def hang(request: bytes, context: Any) -> Any:
    gone = threading.Event()
    context.add_callback(gone.set)
    say("hangs")
    yield b"begun"
    gone.wait(20)
    say("cancelled" if not context.is_active() else "active")


def serve(pem: list[str]) -> None:
    def handlers() -> dict[str, Any]:
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
            "Left": grpc.unary_unary_rpc_method_handler(left),
            "Fail": grpc.unary_unary_rpc_method_handler(fail),
            "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
            "Down": grpc.unary_stream_rpc_method_handler(down),
            "Up": grpc.stream_unary_rpc_method_handler(up),
            "Both": grpc.stream_stream_rpc_method_handler(both),
            "Hang": grpc.unary_stream_rpc_method_handler(hang),
        }

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=UNLIMITED)
    health = {"Check": grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01")}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(SERVICE, handlers()),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        )
    )
    if pem:
        pair = [Path(name).read_bytes() for name in pem]
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pair[1], pair[0])]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    say(port)
    for line in sys.stdin:
        if line.strip() == "stop":  # graceful: GOAWAY
            server.stop(10).wait()
            say("stopped")


# The client


class Calls:
    """Scenarios; each returns what JSON can say."""

    def __init__(self, channel: Any) -> None:
        def path(name: str) -> str:
            return f"/{SERVICE}/{name}"

        self.channel = channel
        self.unary_ = channel.unary_unary(path("Unary"))
        self.left_ = channel.unary_unary(path("Left"))
        self.fail_ = channel.unary_unary(path("Fail"))
        self.missing_ = channel.unary_unary(path("Missing"))
        self.fail_late_ = channel.unary_stream(path("FailLate"))
        self.down_ = channel.unary_stream(path("Down"))
        self.up_ = channel.stream_unary(path("Up"))
        self.both_ = channel.stream_stream(path("Both"))
        self.hang_ = channel.unary_stream(path("Hang"))

    def unary(self) -> Any:
        answer, call = self.unary_.with_call(b"abc", metadata=(("x-ask", "me"),), timeout=10)
        first = dict(call.initial_metadata())
        return [answer.decode(), first["x-first"], first["x-blob-bin"].hex(), dict(call.trailing_metadata())]

    def types(self) -> Any:
        downs = [len(one) for one in self.down_(b"5", timeout=10)]
        up = self.up_(iter([PEBBLE] * 50), timeout=10).decode()
        boths = [one.decode() for one in self.both_(iter([b"a", b"b", b"c"]), timeout=10)]
        return [downs, up, boths]

    def turns(self) -> Any:
        """Each message goes out when the answer to the one before has come."""
        heard = threading.Semaphore(1)

        def ask() -> Any:
            for number in range(10):
                heard.acquire()
                yield str(number).encode()

        answers = []
        for answer in self.both_(ask(), timeout=10):
            answers.append(answer.decode())
            heard.release()
        return answers

    def big(self) -> Any:
        size = sum(len(one) for one in self.down_(b"100", timeout=20))
        up = self.up_(iter([ROCK] * 100), timeout=20).decode()
        return [size, up]

    def deadline(self) -> Any:
        remaining = float(self.left_(b"", timeout=7.5))
        began = time.monotonic()
        try:
            list(self.hang_(b"", timeout=0.4))
        except grpc.RpcError as error:
            return [5 < remaining <= 7.5, error.code().name, time.monotonic() - began < 3]
        return None

    def cancel(self) -> Any:
        call = self.hang_(b"", timeout=20)
        first = next(call)
        call.cancel()
        return [first.decode(), call.code().name]

    def errors(self) -> Any:
        found = []
        for call in (self.fail_, self.missing_):
            try:
                call(b"", timeout=10)
            except grpc.RpcError as error:
                found.append([error.code().name, error.details(), dict(error.trailing_metadata())])
        got = []
        try:
            for one in self.fail_late_(b"", timeout=10):
                got.append(one.decode())
        except grpc.RpcError as error:
            found.append([error.code().name, error.details(), got])
        return found

    def status(self) -> Any:
        """How a call ends."""
        try:
            return ["OK", self.unary_(b"abc", timeout=10).decode()]
        except grpc.RpcError as error:
            return [error.code().name, error.details()]

    def steady(self) -> Any:
        """Calls while somebody ends the server; tells how many failed."""
        say("begun")
        failed, done = [], 0
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            try:
                self.unary_(b"abc", timeout=10)
                done += 1
            except grpc.RpcError as error:
                failed.append([error.code().name, error.details()])
        return [done, failed]

    def times(self) -> Any:
        """The median of the latencies, in ms, and how many failed of 1,000."""
        took, failed = [], 0
        for number in range(1100):
            began = time.perf_counter()
            try:
                self.unary_(PEBBLE, timeout=10)
            except grpc.RpcError:
                failed += 1
            if number >= 100:
                took.append(time.perf_counter() - began)
        return [statistics.median(took) * 1000, failed]


def ask(target: str, name: str, ca: str = "") -> None:
    if ca:
        credentials = grpc.ssl_channel_credentials(Path(ca).read_bytes())
        options = [*UNLIMITED, ("grpc.ssl_target_name_override", "localhost")]
        channel = grpc.secure_channel(target, credentials, options=options)
    else:
        channel = grpc.insecure_channel(target, options=UNLIMITED)
    with channel:
        say(json.dumps(getattr(Calls(channel), name)()))


if __name__ == "__main__":
    if sys.argv[1] == "node":
        serve(sys.argv[2:])
    elif sys.argv[1] == "client":
        ask(sys.argv[2], sys.argv[3])
    else:
        ask(sys.argv[2], sys.argv[4], sys.argv[3])
