"""The kind of all revisers: hooks for heads, filters for contents, in the order of the rule."""

from __future__ import annotations

from hemi import component as registry
from hemi.component import prop
from hemi.web.request import Request
from hemi.web.response import Response
from hemi.web.reviser import Filter, Reviser
from tests.webkit import config, load, running, scripted


class Letters:
    """Puts a letter behind every piece, and one behind the end."""

    def __init__(self, letter: bytes) -> None:
        self.letter = letter

    def update(self, data: bytes) -> bytes:
        return data + self.letter if data else b""

    def finish(self) -> bytes:
        return self.letter.upper()


class Marked(Reviser, sign="marked_by_test"):
    """Marks all that passes."""

    letter: str = prop("a", "The mark.")

    def revise_request(self, req: Request) -> Filter | None:
        req.add_header("x-seen", self.letter)
        return Letters(self.letter.encode())

    def revise_response(self, req: Request, resp: Response, size: int | None) -> Filter | None:
        resp.add_header("x-size", str(size))
        return Letters(self.letter.encode())


registry._registry["revisers"].pop("marked_by_test", None)


def test_it_is_a_kind_of_its_own() -> None:
    assert registry.kinds()["revisers"] is Reviser
    plain = Reviser()
    assert plain.revise_request(None) is None  # type: ignore[arg-type]
    assert plain.revise_response(None, None, 1) is None  # type: ignore[arg-type]


def test_they_work_in_the_order_of_the_rule() -> None:
    def whole(req: Request, resp: Response) -> bool:
        resp.send(req.content() + req.header_text("x-seen").encode())
        return True

    def streamed(req: Request, resp: Response) -> bool:
        resp.echo(b"1")
        resp.echo(b"2")
        return True

    def marks() -> list[dict[str, dict[str, str]]]:
        return [{"marked_by_test": {"letter": "a"}}, {"marked_by_test": {"letter": "b"}}]

    rules = [
        {"if": '$path == "/whole"', "handlets": [scripted(whole)], "revisers": marks()},
        {"handlets": [scripted(streamed)], "revisers": marks()},
    ]
    table = registry._registry["revisers"]
    table["marked_by_test"] = Marked
    try:
        mapping = config(rules=rules)
        load(mapping)
        with running(mapping) as site, site.connect() as client:
            client.send(b"POST /whole HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
            answer = client.answer()
            # In, in pieces: "x" gets a and b, its end A (which b marks, too) and B. Out, as a whole: aA, then bB.
            assert answer.content == b"xabAbBa, baAbB"
            assert [value for name, value in answer.fields if name == "x-size"] == ["10", "None"]
            client.send(b"GET /streamed HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.answer().content == b"1ab2abAbB"
    finally:
        del table["marked_by_test"]
