"""What is served: the same small answer as a WSGI app, an ASGI app and a Flask app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

HELLO = b"hello, world!"


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A WSGI app."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [HELLO]


async def hello_asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """An ASGI app; without lifespan events."""
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": HELLO})


async def echo_asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """An ASGI app that echoes the messages of WebSockets."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        kind = "text" if message.get("text") is not None else "bytes"
        await send({"type": "websocket.send", kind: message[kind]})


def make_flask() -> Any:
    """Makes a Flask app."""
    from flask import Flask, Response

    app = Flask("hello")

    @app.route("/")
    def answer() -> Response:
        return Response(HELLO, content_type="text/plain")

    return app


def __getattr__(name: str) -> Any:
    if name == "flask_hello":  # so that only those who serve it import Flask
        globals()[name] = make_flask()
        return globals()[name]
    raise AttributeError(name)
