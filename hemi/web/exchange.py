"""One exchange from the request to the end of the response: where all errors end, and where the access is logged."""

from __future__ import annotations

import traceback
from time import monotonic
from typing import TYPE_CHECKING

from greenlet import GreenletExit

from hemi.meter import BEGUN, BYTES, LATENCY
from hemi.web.errors import ClientGone, HTTPError
from hemi.web.response import Response

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.server import HTTPXServer


_NOTHING = (
    ("authority", ""),
    ("hostname", ""),
    ("port", 0),
    ("path", ""),
    ("raw_path", b""),
    ("query_string", ""),
)


def run(stream, server: HTTPXServer) -> None:  # type: ignore[no-untyped-def]  # a stream of any version
    """Serves the request of a stream. Whatever happens, the message on the wire is whole or visibly broken off."""
    request: Request = stream.request
    response = Response(request, stream)
    meter = (request.webapp or server).meter
    meter[BEGUN] += 1
    try:
        try:
            if stream.refusal is not None:
                _refuse(stream, response)
            elif request.webapp is None:
                response.error(404, "No site of this name is served here.")
            else:
                request.webapp.dispatch(request, response)
            if not stream.done:
                if not response.is_sent:
                    raise RuntimeError(f"{_who(request)} said that it handled the request, but sent nothing")
                response.finish()
        except HTTPError as error:
            _answer(stream, response, error, server)
        except ClientGone:
            stream.keep_alive = False
        except (GreenletExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # sys.exit() and a stray gevent.Timeout are the app's faults, too
            _report(stream, response, error, server)
        response.ended = monotonic()
        owner = request.rule or request.webapp or server
        if owner.record is not None:
            owner.record(response)
        if request._form is not None:
            request.dispose()
    finally:
        # Written out: 0.5 µs an exchange, of which the clock takes 0.15; a call would add 0.2.
        ended = response.ended or monotonic()
        meter[response.status // 100] += 1
        meter[BYTES] += response.bytes_sent
        if response.status != 101:  # how long a WebSocket lasts is no latency
            meter[LATENCY + int((ended - request.started) * 1e6).bit_length()] += 1
        if request.endings is not None:
            _end(request, server)


def _refuse(stream, response: Response) -> None:  # type: ignore[no-untyped-def]
    refusal = stream.refusal
    stream.keep_alive = False
    for name, value in _NOTHING:  # logs and pages may ask for what was never found out
        if not hasattr(stream.request, name):
            setattr(stream.request, name, value)
    response.error(refusal.status, refusal.text)


def _answer(stream, response: Response, error: HTTPError, server: HTTPXServer) -> None:  # type: ignore[no-untyped-def]
    """Sends the page of an error that a handlet or the reading of the content raised."""
    if error.close:
        stream.keep_alive = False
    if response.is_sent and not stream.retract():
        if not stream.done:
            stream.abort()
        return
    try:
        response.error(error.status, error.text or None, error.headers)
    except ClientGone:
        stream.keep_alive = False
    except Exception as another:
        _report(stream, response, another, server)


def _report(stream, response: Response, error: BaseException, server: HTTPXServer) -> None:  # type: ignore[no-untyped-def]
    """Logs what a handlet raised, with the traceback, and answers with a plain 500 if that is still possible."""
    request: Request = stream.request
    server.stage.log.error(
        "web", f"{_who(request)} failed at {request.line()} from {request.src_host}", error
    )
    if stream.done:
        return
    if response.is_sent and not stream.retract():
        stream.abort()
        return
    text = "".join(traceback.format_exception(error)) if server.stage.debug else None
    response.revisers = ()
    try:
        response.error(500, text)
    except ClientGone:
        stream.keep_alive = False
    except Exception as another:
        server.stage.log.error("web", f"the error page of {_who(request)} failed", another)
        stream.abort()


def _end(request: Request, server: HTTPXServer) -> None:
    """Calls what wants to know about the end of the exchange; all of them, whatever one does."""
    endings, request.endings = request.endings or [], None
    for call in endings:
        try:
            call()
        except Exception as error:
            server.stage.log.error("web", f"the end of {request.line()} failed", error)


def _who(request: Request) -> str:
    webapp = f'webapp "{request.webapp.name}"' if request.webapp is not None else "the server"
    return f"{webapp}, rule at {request.rule.place}," if request.rule is not None else webapp
