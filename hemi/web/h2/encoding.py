"""Field blocks: decoding those of a client, and encoding ours (RFC 7541).

Ours never use the dynamic table, as nginx's do not: a block is then the same on all connections, and can be remembered
like a line of HTTP/1. It costs some dozens of bytes a response, which Huffman codes mostly win back.
"""

from __future__ import annotations

from typing import Any

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.hpack import encode_integer
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from hemi.web.h2.errors import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFault

MAX_KNOWN = 4096
HUFFMAN_MOST = 128
"""Longer values are sent plainly: encoding them costs more than it saves."""

_huffman = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
_static: dict[bytes, int] = {}
_whole: dict[tuple[bytes, bytes], int] = {}
for _number, (_name, _value) in enumerate(HeaderTable.STATIC_TABLE, 1):
    _static.setdefault(_name, _number)
    _whole[_name, _value] = _number

_DROPPED = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""Fields that a response of HTTP/2 must not have (RFC 9113 §8.2.2)."""
_SECRET = frozenset({b"set-cookie", b"authorization", b"proxy-authorization"})
"""Fields that nobody behind us may index either (RFC 7541 §7.1.3)."""


class _Table(HeaderTable):
    """The dynamic table of a client's blocks. `generation` changes with what an index means."""

    def __init__(self) -> None:
        super().__init__()
        self.generation = 0

    def add(self, name: bytes, value: bytes) -> None:
        """Adds an entry in front, which moves all others."""
        self.generation += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        """The size that the client has chosen, in bytes."""
        return int(self._maxsize)

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.generation += 1
        HeaderTable.maxsize.fset(self, newmax)  # type: ignore[attr-defined]


class BlockDecoder:
    """Decodes a client's blocks. `generation` tells whether the same bytes still mean the same."""

    __slots__ = ("_decoder", "table")

    def __init__(self, table_size: int, max_list_size: int) -> None:
        self._decoder: Any = Decoder(max_list_size)
        self._decoder.header_table = self.table = _Table()
        self._decoder.max_allowed_table_size = max(table_size, 4096)

    def limit(self, table_size: int) -> None:
        """Holds the client to a table size that it has acknowledged."""
        self._decoder.max_allowed_table_size = table_size

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """The fields of a block. Raises ConnectionFault: the table can't be trusted any more (RFC 7541 §2.1)."""
        try:
            return self._decoder.decode(block, raw=True)  # type: ignore[no-any-return]
        except OversizedHeaderListError:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "a head that is far too large") from None
        except (HPACKError, IndexError, ValueError) as error:
            raise ConnectionFault(COMPRESSION_ERROR, f"a field block: {error}") from None


# Encoding

_known: dict[tuple[bytes, bytes], bytes] = {}
_known_lines: dict[bytes, bytes] = {}


def _string(text: bytes, plain: bool) -> bytes:
    if not plain and len(text) <= HUFFMAN_MOST:
        short = _huffman.encode(text)
        if len(short) < len(text):
            size = encode_integer(len(short), 7)
            size[0] |= 0x80
            return bytes(size) + short
    return bytes(encode_integer(len(text), 7)) + text


def encode_field(name: bytes, value: bytes) -> bytes:
    """A field, not to be indexed (RFC 7541 §6.2.2, §6.2.3); b"" for what has no place in HTTP/2."""
    if name in _DROPPED:
        return b""
    secret = name in _SECRET
    first = 0x10 if secret else 0
    number = _static.get(name)
    if number is None:
        return bytes((first,)) + _string(name.lower(), False) + _string(value, secret)
    index = encode_integer(number, 4)
    index[0] |= first
    return bytes(index) + _string(value, secret)


def field_block(field: tuple[bytes, bytes]) -> bytes:
    """The same, remembered."""
    block = _known.get(field)
    if block is None:
        block = encode_field(*field)
        if len(field[1]) <= HUFFMAN_MOST and field[0] not in _SECRET:
            if len(_known) >= MAX_KNOWN:
                _known.clear()
            _known[field] = block
    return block


def lines_block(lines: bytes) -> bytes:
    """The block of ready-made field lines of HTTP/1; remembered."""
    block = _known_lines.get(lines)
    if block is None:
        block = b""
        for line in lines.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if colon:
                block += encode_field(name.lower(), value.strip(b" \t"))
        if len(lines) <= 1024:
            if len(_known_lines) >= MAX_KNOWN:
                _known_lines.clear()
            _known_lines[lines] = block
    return block


def status_block(status: int) -> bytes:
    """:status (RFC 9113 §8.3.2)."""
    number = _whole.get((b":status", b"%d" % status))
    return bytes((0x80 | number,)) if number else b"\x08\x03%03d" % status


STATUS_BLOCKS: dict[int, bytes] = {status: status_block(status) for status in range(100, 600)}

_LENGTH = bytes(encode_integer(_static[b"content-length"], 4))


def length_block(size: int) -> bytes:
    """content-length."""
    digits = b"%d" % size
    return b"%b%c%b" % (_LENGTH, len(digits), digits)
