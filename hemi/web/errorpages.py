"""The built-in error pages: small and self-contained, as HTML, JSON or plain text.

Nothing that a user sent is ever on them, but for what a handlet passes as text, which is escaped.
A page without a text of its own is made once and kept.
"""

from __future__ import annotations

import html
import json
from functools import lru_cache

from hemi.web.negotiate import best
from hemi.web.statuses import reason_of

HTML = "text/html; charset=utf-8"
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

_CONTENT_TYPES: dict[str | None, str] = {"text/html": HTML, "application/json": JSON}

_HINTS = {
    400: "The request could not be understood.",
    401: "You need to sign in to see this page.",
    403: "You are not allowed to see this page.",
    404: "There is nothing at this address. It may have moved, or the link may be misspelled.",
    405: "This address does not take requests of this kind.",
    406: "There is no version of this page that your program accepts.",
    408: "The request took too long to arrive.",
    410: "What was here is gone for good.",
    411: "The request must say how long it is.",
    412: "The page changed in the meantime.",
    413: "What was sent is larger than allowed.",
    414: "The address is longer than allowed.",
    415: "What was sent is of a type that is not accepted here.",
    416: "The requested part is outside of the file.",
    417: "The request expects something that cannot be done.",
    421: "This site is not served by this connection. Reload the page.",
    429: "Too many requests. Wait a little, then try again.",
    431: "The head of the request is larger than allowed. Clearing the cookies of this site may help.",
    500: "Something went wrong on our side. It has been written down.",
    501: "The request needs something that is not available here.",
    502: "The server behind this site gave no proper answer.",
    503: "The site is too busy or under maintenance. Try again in a moment.",
    504: "The server behind this site did not answer in time.",
    505: "This version of HTTP is not spoken here.",
    507: "There is no room to store what was sent.",
}

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{status} {reason}</title>
<style>
:root {{ color-scheme: light dark; --paper: #fbfbfa; --ink: #24292f; --faint: #6b737c; --mark: #2a6fdb; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #16191d; --ink: #e4e7ea; --faint: #949ca5; --mark: #7fb2ff; }}
}}
* {{ box-sizing: border-box; margin: 0; }}
body {{ min-height: 100vh; display: flex; flex-direction: column; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.6 system-ui, sans-serif; }}
main {{ margin: auto; max-width: 34rem; width: 100%; }}
p.status {{ font-size: clamp(3.5rem, 16vw, 6rem); font-weight: 700; line-height: 1; letter-spacing: -.04em;
  color: var(--mark); }}
h1 {{ margin: .6rem 0; font-size: 1.5rem; line-height: 1.3; }}
p.hint {{ color: var(--faint); overflow-wrap: anywhere; white-space: pre-line; }}
footer {{ color: var(--faint); font-size: .8rem; text-align: center; }}
</style>
</head>
<body>
<main>
<p class="status">{status}</p>
<h1>{reason}</h1>
<p class="hint">{hint}</p>
</main>
<footer>gorox</footer>
</body>
</html>
"""


def error_page(status: int, accept: str | None = None, text: str | None = None) -> tuple[str, bytes]:
    """Content type and content of an error page.

    `accept` is the client's Accept field, or None; `text` replaces the built-in hint. Of forms that the
    client likes equally it gets HTML if it named HTML, as browsers do, then JSON if it named JSON, else plain
    text: curl and most libraries accept anything and show it as it is.
    """
    form = _form(accept)
    return form, _known_page(status, form) if text is None else _content(status, form, text)


def _form(accept: str | None) -> str:
    if accept is None or accept == "*/*":
        return TEXT
    if "html" in accept:
        offered = ("text/html", "text/plain", "application/json")
    elif "json" in accept:
        offered = ("application/json", "text/plain", "text/html")
    else:
        offered = ("text/plain", "application/json", "text/html")
    return _CONTENT_TYPES.get(best(offered, accept), TEXT)


@lru_cache(512)
def _known_page(status: int, form: str) -> bytes:
    return _content(status, form, _HINTS.get(status, ""))


def _content(status: int, form: str, hint: str) -> bytes:
    reason = reason_of(status)
    if form == JSON:
        content = json.dumps({"status": status, "error": reason, "message": hint}) + "\n"
    elif form == TEXT:
        content = f"{status} {reason}\n" + (f"{hint}\n" if hint else "")
    else:
        content = _PAGE.format(status=status, reason=html.escape(reason), hint=html.escape(hint))
    return content.encode("utf-8", "replace")
