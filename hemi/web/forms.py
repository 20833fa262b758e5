"""Forms, parsed while they arrive: application/x-www-form-urlencoded and multipart/form-data.

The caller feeds a `FormReader` with what it reads and gets a `Form` at the end. Nothing here reads a socket.
Every dimension of a form has a cap (`FormLimits`); uploads beyond `spool_size`, or beyond what is left of
`max_memory`, go on to an unnamed file on disk, which vanishes with its last descriptor even if we are killed.

Multipart syntax (RFC 7578, RFC 2046) is the work of the `multipart` package's sans-I/O parser; the caps, the
charsets and the files are ours.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import shutil
import tempfile
import unicodedata
from io import BytesIO
from typing import IO, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

import multipart

from hemi.web.fields import parse_parameters
from hemi.web.uri import BadTarget, parse_query


class FormError(ValueError):
    """A form that is refused.

    `status`: 400 malformed, 413 beyond a limit, 415 not a form or not a charset, 507 no room to spool.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class FormLimits(NamedTuple):
    """Caps on one form; sizes in bytes. Beyond one of them is a 413."""

    max_parts: int = 1000
    """Parts of a multipart form, fields and files together."""
    max_fields: int = 1000
    """Fields that are not files (Django: 1000)."""
    max_files: int = 100
    """Files (Django: 100): each one that is spooled takes a descriptor."""
    max_part_head: int = 8 << 10
    """The fields at the head of a part together."""
    max_field_size: int = 1 << 20
    """The value of one field."""
    max_memory: int = 4 << 20
    """All that is kept in memory: fields, and files that are not spooled."""
    max_file_size: int = 1 << 30
    """One file."""
    max_total: int = 2 << 30
    """The whole content."""
    spool_size: int = 64 << 10
    """Files larger than this go on to disk; that is no error."""


DEFAULT_LIMITS = FormLimits()


class Upload:
    """A file of a multipart form. Whoever has the form closes it; a `save` before that keeps the content."""

    __slots__ = ("content_type", "file", "filename", "headers", "name", "size")

    def __init__(self, name: str, filename: str, content_type: str, headers: dict[str, str]):
        self.name = name
        self.filename = filename
        """As the client gave it: never use it as a path, see `safe_name`."""
        self.content_type = content_type
        """The media type in lower case, without parameters; "application/octet-stream" if not given."""
        self.headers = headers
        """The fields at the head of the part, names in lower case."""
        self.size = 0
        self.file: IO[bytes] = BytesIO()

    @property
    def safe_name(self) -> str:
        """A harmless name for a file, made of `filename`; see `safe_filename`."""
        return safe_filename(self.filename)

    @property
    def is_spooled(self) -> bool:
        """Whether the content is on disk."""
        return not isinstance(self.file, BytesIO)

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes from where the last read ended; b"" at the end."""
        return self.file.read(size)

    def save(self, path: str) -> None:
        """Writes the whole content to a file, which appears complete or not at all. Raises OSError."""
        self.file.seek(0)
        folder, name = os.path.split(os.path.abspath(path))
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name[:40]}.", dir=folder)
        try:
            with open(descriptor, "wb") as file:
                shutil.copyfileobj(self.file, file, 1 << 18)
                os.fchmod(descriptor, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def close(self) -> None:
        """Lets go of the content. Idempotent."""
        with contextlib.suppress(OSError):  # a buffered write that had no room is tried again by close
            self.file.close()

    def __repr__(self) -> str:
        return f"<Upload {self.name!r} {self.filename!r} {self.content_type} size={self.size}>"


class Form(NamedTuple):
    """A form: its fields and its files, both in the order of arrival."""

    fields: list[tuple[str, str]]
    uploads: list[Upload]

    def close(self) -> None:
        """Closes all uploads. Idempotent."""
        for upload in self.uploads:
            upload.close()


_URLENCODED = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"


class _Parser(Protocol):
    def feed(self, data: bytes) -> None: ...
    def finish(self) -> Form: ...
    def close(self) -> None: ...


class FormReader:
    """Reads a form piece by piece: `feed` what arrives, then `finish`; after an error, `close`.

    `spool_dir` is where large files go, the system's folder for temporary files if None. The constructor and
    both methods raise FormError.
    """

    __slots__ = ("_limits", "_parser", "_total")

    def __init__(
        self,
        content_type: str,
        limits: FormLimits = DEFAULT_LIMITS,
        spool_dir: str | None = None,
    ):
        kind, parameters = parse_parameters(content_type)
        self._limits = limits
        self._total = 0
        self._parser: _Parser
        if kind == _MULTIPART:
            self._parser = _MultipartParser(parameters.get("boundary", ""), limits, spool_dir)
        elif kind == _URLENCODED:
            self._parser = _UrlencodedParser(check_charset(parameters.get("charset", "utf-8")), limits)
        else:
            raise FormError(415, f"a form must be {_URLENCODED} or {_MULTIPART}, not {kind!r}")

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the content, however few or many."""
        self._total += len(data)
        if self._total > self._limits.max_total:
            self.close()
            raise FormError(413, f"a form must not be larger than {self._limits.max_total} bytes")
        if data:
            self._parser.feed(data)

    def finish(self) -> Form:
        """The form, after the last byte. Its uploads now belong to the caller, who closes them."""
        return self._parser.finish()

    def close(self) -> None:
        """Lets go of everything if there was no `finish`. Idempotent."""
        self._parser.close()


# Codecs that a browser could mean. Python has others by which little input makes much output or work.
_CHARSET = re.compile(
    r"utf-?8|(?:us-)?ascii|(?:iso-?8859|latin)-?[0-9]{1,2}|(?:windows|cp)-?(?:874|125[0-8])|koi8-[ru]|macintosh|"
    r"gbk|gb2312|gb18030|big5(?:-hkscs)?|euc-(?:jp|kr)|shift[_-]jis|iso-2022-jp",
    re.IGNORECASE,
)


def check_charset(name: str) -> str:
    """The name of a charset that a client chose. Raises FormError 415 for codecs that are none (zip, rot13 …)."""
    try:
        if _CHARSET.fullmatch(name) is not None:
            codecs.lookup(name)
            return name
    except LookupError:
        pass
    raise FormError(415, f"unknown charset: {name[:40]!r}")


class _UrlencodedParser:
    """Gathers the content, since a pair is only worth decoding whole."""

    def __init__(self, charset: str, limits: FormLimits):
        self.charset = charset
        self.limits = limits
        self.content = bytearray()

    def feed(self, data: bytes) -> None:
        if len(self.content) + len(data) > self.limits.max_memory:
            raise FormError(
                413, f"the fields of a form must not be larger than {self.limits.max_memory} bytes"
            )
        self.content += data

    def finish(self) -> Form:
        text = self.content.decode("utf-8", "surrogateescape")
        try:
            fields = parse_query(text, self.limits.max_fields, self.charset)
        except BadTarget:
            raise _too_many_fields(self.limits) from None
        most = self.limits.max_field_size
        if len(text) > most and any(len(value) > most for _, value in fields):
            raise _too_large_field(self.limits)
        return Form(fields, [])

    def close(self) -> None:
        self.content.clear()


_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046 §5.1.1
_MAX_HEAD_FIELDS = 16


class _MultipartParser:
    """Sorts the events of the package's parser into fields and uploads, counting."""

    def __init__(self, boundary: str, limits: FormLimits, spool_dir: str | None):
        if _BOUNDARY.fullmatch(boundary) is None:
            raise FormError(
                400, f"multipart/form-data must have a boundary of 1 to 70 characters: {boundary[:80]!r}"
            )
        self.limits = limits
        self.spool_dir = spool_dir
        self.parser = multipart.PushMultipartParser(
            boundary,
            max_header_size=limits.max_part_head,
            max_header_count=_MAX_HEAD_FIELDS,
            max_segment_count=limits.max_parts,
            header_charset="latin-1",  # loses nothing; decoded as UTF-8 below, leniently
        )
        self.form = Form([], [])
        self.memory = 0
        self.field_name = ""
        self.field: bytearray | None = None
        self.charset = "utf-8"
        self.upload: Upload | None = None

    def feed(self, data: bytes) -> None:
        try:
            for event in self.parser.parse(data):
                if event is None:
                    self.end_part()
                elif isinstance(event, multipart.MultipartSegment):
                    self.begin_part(event)
                elif self.upload is not None:
                    self.add_to_upload(self.upload, event)
                elif self.field is not None:
                    self.add_to_field(self.field, event)
        except multipart.ParserLimitReached as error:
            self.close()
            raise FormError(413, _message(error)) from None
        except multipart.MultipartError as error:
            self.close()
            raise FormError(400, _message(error)) from None
        except BaseException:
            self.close()
            raise

    def finish(self) -> Form:
        try:
            self.parser.close()
        except multipart.MultipartError as error:
            self.close()
            raise FormError(400, _message(error)) from None
        form, self.form = self.form, Form([], [])
        return form

    def close(self) -> None:
        self.form.close()
        if self.upload is not None:
            self.upload.close()

    def begin_part(self, segment: multipart.MultipartSegment) -> None:
        if sum(len(name) + len(value) + 4 for name, value in segment.headerlist) > self.limits.max_part_head:
            raise FormError(
                413, f"the head of a part must not be larger than {self.limits.max_part_head} bytes"
            )
        headers = {name.lower(): _decode(value) for name, value in segment.headerlist}
        name = _decode(segment.name or "")
        filename = _filename(segment, headers)
        if filename is None:
            self.field_name, self.field = name, bytearray()
            self.charset = check_charset(segment.charset or "utf-8")
            if len(self.form.fields) >= self.limits.max_fields:
                raise _too_many_fields(self.limits)
        else:
            if len(self.form.uploads) >= self.limits.max_files:
                raise FormError(413, f"a form must not have more than {self.limits.max_files} files")
            kind = segment.content_type or "application/octet-stream"
            self.upload = Upload(name, filename, kind, headers)

    def add_to_field(self, field: bytearray, data: bytes) -> None:
        if len(field) + len(data) > self.limits.max_field_size:
            raise _too_large_field(self.limits)
        self.memory += len(data)
        if self.memory > self.limits.max_memory:
            raise FormError(
                413, f"the fields of a form must not be larger than {self.limits.max_memory} bytes"
            )
        field += data

    def add_to_upload(self, upload: Upload, data: bytes) -> None:
        size = upload.size + len(data)
        if size > self.limits.max_file_size:
            raise FormError(413, f"a file must not be larger than {self.limits.max_file_size} bytes")
        if not upload.is_spooled:
            if size > self.limits.spool_size or self.memory + len(data) > self.limits.max_memory:
                self.spool(upload)
            else:
                self.memory += len(data)
        try:
            upload.file.write(data)
        except OSError as error:
            raise _no_room(error) from error
        upload.size = size

    def spool(self, upload: Upload) -> None:
        """Moves an upload on to disk. Its memory is free again."""
        content = upload.file
        assert isinstance(content, BytesIO)
        try:
            upload.file = tempfile.TemporaryFile(dir=self.spool_dir, prefix="upload-")  # noqa: SIM115
            with content.getbuffer() as view:
                upload.file.write(view)
        except OSError as error:
            raise _no_room(error) from error
        self.memory -= upload.size

    def end_part(self) -> None:
        upload = self.upload
        if upload is not None:
            self.upload = None
            self.form.uploads.append(upload)
            try:
                upload.file.seek(0)  # writes out what is buffered
            except OSError as error:
                raise _no_room(error) from error
            if not upload.filename and not upload.size:  # an <input type=file> without a choice
                self.form.uploads.pop().close()
        elif self.field is not None:
            self.form.fields.append((self.field_name, self.field.decode(self.charset, "replace")))
            self.field = None


def _message(error: multipart.MultipartError) -> str:
    text = str(error.args[0]) if error.args else "malformed"
    return f"multipart/form-data: {text[:1].lower()}{text[1:]}"


def _too_many_fields(limits: FormLimits) -> FormError:
    return FormError(413, f"a form must not have more than {limits.max_fields} fields")


def _too_large_field(limits: FormLimits) -> FormError:
    return FormError(413, f"a field of a form must not be larger than {limits.max_field_size} bytes")


def _no_room(error: OSError) -> FormError:
    return FormError(507, f"an upload can't be spooled: {error.strerror or error}")


def _decode(text: str) -> str:
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def _filename(segment: multipart.MultipartSegment, headers: dict[str, str]) -> str | None:
    """The file name of a part, None if it is a field.

    RFC 7578 §4.2 forbids ``filename*`` (RFC 8187), and some libraries send nothing else.
    """
    if segment.filename is not None:
        return _decode(segment.filename)
    extended = parse_parameters(headers["content-disposition"])[1].get("filename*")
    if extended is None:
        return None
    charset, _, rest = extended.partition("'")
    encoded = rest.partition("'")[2]
    return unquote_to_bytes(encoded).decode(check_charset(charset), "replace")


_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE | re.DOTALL)


def safe_filename(name: str, default: str = "upload") -> str:
    """A name that is harmless as that of a file, on every system, made of what a client sent.

    The last component of a path of either kind, normalised (NFC), without controls and text direction marks;
    not hidden, not a device of Windows, at most 200 bytes with its suffix kept. `default` if nothing is left.
    """
    name = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    name = _UNSAFE.sub("_", name).strip(" ").lstrip(". ").rstrip(". ")
    if not name.strip("_"):
        return default
    if _RESERVED.fullmatch(name) is not None:
        name = "_" + name
    raw = name.encode()
    if len(raw) > 200:
        stem, dot, suffix = name.rpartition(".")
        tail = f".{suffix}".encode() if dot and stem and len(suffix.encode()) <= 20 else b""
        name = (raw[: 200 - len(tail)].decode("utf-8", "ignore") + tail.decode()).rstrip(". ")
    return name
