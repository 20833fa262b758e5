"""What PEP 3333 offers, without any framework. Run it: gorox --config conf/examples/wsgi.yaml"""

import os
import time


def app(environ, start_response):
    """One page a feature; the path chooses."""
    page = PAGES.get(environ["PATH_INFO"], missing)
    return page(environ, start_response)


def home(environ, start_response):
    """A whole page: one write, with its length."""
    links = "".join(f'<li><a href="{environ["SCRIPT_NAME"]}{path}">{path}</a>' for path in PAGES)
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [f"<!doctype html><title>WSGI</title><ul>{links}</ul>".encode()]


def clock(environ, start_response):
    """A stream: each piece is on its way before the next is made. Waiting stops nobody else."""
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    for _ in range(10):
        yield f"data: {time.strftime('%H:%M:%S')}\n\n".encode()
        time.sleep(1)


def echo(environ, start_response):
    """The content of the request, sized or chunked, comes back as it arrives."""
    source = environ["wsgi.input"]
    start_response("200 OK", [("Content-Type", environ.get("CONTENT_TYPE") or "text/plain")])
    return iter(lambda: source.read(65536), b"")


def source(environ, start_response):
    """A file, by sendfile."""
    file = open(__file__, "rb")  # noqa: SIM115  closed by the server
    size = os.fstat(file.fileno()).st_size
    start_response("200 OK", [("Content-Type", "text/x-python"), ("Content-Length", str(size))])
    return environ["wsgi.file_wrapper"](file)


def missing(environ, start_response):
    """A page that is not there."""
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"There is nothing here.\n"]


PAGES = {"/": home, "/clock": clock, "/echo": echo, "/source": source}
