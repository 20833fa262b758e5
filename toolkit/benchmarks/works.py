"""What is measured: each work's URL, load and figure."""

from __future__ import annotations

from typing import NamedTuple

BROWSER_HEAD = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Cache-Control: max-age=0",
    "Cookie: session=eyJfZnJlc2giOmZhbHNlfQ.ZnR5cA.qJ3kq1kTnH0; theme=dark; consent=yes",
    "Referer: http://localhost/shop/catalogue?page=3",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Upgrade-Insecure-Requests: 1",
)  # with Host they are 12


class Work(NamedTuple):
    """A work: what wrk does, and which figure of it counts."""

    title: str
    port: str
    path: str = "/"
    scheme: str = "http"
    fields: tuple[str, ...] = ()
    figure: str = "requests_per_s"


WORKS: dict[str, Work] = {
    "hello": Work("handlet hello", "handlet"),
    "head": Work("handlet hello, a browser's 12-field head", "handlet", fields=BROWSER_HEAD),
    "return": Work("rule with return_text", "return"),
    "wsgi": Work("WSGI hello", "wsgi"),
    "flask": Work("Flask hello", "flask"),
    "file1k": Work("static file of 1 KiB", "files", "/1k.txt"),
    "file10m": Work("static file of 10 MiB", "files", "/10m.bin", figure="bytes_per_s"),
    "tls": Work("TLS keep-alive hello", "tls", scheme="https"),
    "tlsnew": Work("TLS, a new connection per request", "tls", scheme="https", fields=("Connection: close",)),
    "connections": Work("a new connection per request", "handlet", fields=("Connection: close",)),
}
