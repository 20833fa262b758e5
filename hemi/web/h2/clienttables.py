"""Field blocks towards nodes: what stands in the `h2` package's place of its encoder and decoder (RFC 7541).

Requests never use the dynamic table, as our responses do not, so that a field's block is remembered. A response's block
is remembered as long as the table that its indexes point to stays as it is: calls of gRPC are answered by the same few
bytes again and again.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpack.table import HeaderTable

from hemi.web.h2.encoding import BlockDecoder, field_block

__all__ = ["Decoder", "Encoder"]

KNOWN_BLOCKS = 256
KNOWN_SIZE = 512
"""How many blocks of responses a connection remembers, and how large ones in bytes."""

_NO_TABLE = b"\x20"
_WHOLE = {
    field: bytes((0x80 | number,)) for number, field in enumerate(HeaderTable.STATIC_TABLE, 1) if field[1]
}


class Encoder:
    """Encodes. The first block says that the dynamic table has no size, whatever the node allows (§4.2)."""

    def __init__(self) -> None:
        self.header_table_size = 0  # the package's: what the node allows
        self._has_begun = False

    def encode(self, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The block of these fields."""
        block = b"".join([_WHOLE.get(field) or field_block(field) for field in fields])
        if self._has_begun:
            return block
        self._has_begun = True
        return _NO_TABLE + block


class Decoder:
    """Decodes, or remembers. `max_header_list_size` is in bytes, as RFC 9113 §10.5.1 counts them."""

    def __init__(self, table_size: int, max_list_size: int) -> None:
        self.max_header_list_size = max_list_size
        self.max_allowed_table_size = table_size
        self._decoder = BlockDecoder(table_size, max_list_size)
        self._known: dict[bytes, list[tuple[bytes, bytes]]] = {}
        self._generation = 0

    def decode(self, block: bytes, raw: bool = True) -> list[tuple[bytes, bytes]]:
        """The fields of a block. Raises ConnectionFault."""
        table, known = self._decoder.table, self._known
        fields = known.get(block)
        if fields is not None:
            return fields
        fields = self._decoder.decode(block)
        if table.generation != self._generation:
            self._generation = table.generation
            known.clear()
        elif len(block) <= KNOWN_SIZE:
            if len(known) >= KNOWN_BLOCKS:
                known.clear()
            known[block] = fields
        return fields
