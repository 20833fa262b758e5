"""Status codes."""

import http

from hemi.web.statuses import NO_CONTENT, REASONS, STATUS_LINES, reason_of


def test_reasons_agree_with_the_standard_library() -> None:
    renamed = {413, 414, 416, 418, 422}  # RFC 9110 gave them new names, Python follows from 3.13 on
    for status in http.HTTPStatus:
        if status not in renamed:
            assert REASONS[status].lower() == status.phrase.lower()


def test_reason_of_any_status() -> None:
    assert reason_of(404) == "Not Found"
    assert reason_of(299) == "Success"
    assert reason_of(499) == "Client Error"
    assert reason_of(42) == "Unknown"


def test_status_lines() -> None:
    assert set(STATUS_LINES) == set(range(100, 600))
    assert STATUS_LINES[200] == b"HTTP/1.1 200 OK\r\n"
    assert STATUS_LINES[418] == b"HTTP/1.1 418 I'm a Teapot\r\n"


def test_what_has_no_content() -> None:
    assert {100, 101, 103, 199, 204, 304} <= NO_CONTENT
    assert not {200, 205, 206, 404} & NO_CONTENT
