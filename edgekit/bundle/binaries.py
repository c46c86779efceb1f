"""What ``bundle check`` asks of native libraries and of TFLite files, read by hand, whatever is in them."""

from __future__ import annotations

import struct

PAGE_BYTES = 16384  # Android 15 and later: https://developer.android.com/guide/practices/page-sizes
BUFFER_BYTES = 4  # what float32 and int32 need where they are read in place; TFLite's schema asks for 16
# A header of a segment in an ELF file of 64 bits, and the numbers of a loaded one: System V ABI, chapter 5.
_SEGMENT, _LOADED, _LITTLE, _BITS_64 = struct.Struct("<IIQQQQQQ"), 1, 1, 2


def least_alignment(content: bytes) -> int | None:
    """The least alignment of a loaded segment of an ELF file; that of 32 bits is let pass; None for no ELF file."""
    if content[:4] != b"\x7fELF" or len(content) < 64 or content[5] != _LITTLE:
        return None
    if content[4] != _BITS_64:
        return PAGE_BYTES
    (offset,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    if count and (size < _SEGMENT.size or offset + size * count > len(content)):
        return None
    headers = [_SEGMENT.unpack_from(content, offset + size * index) for index in range(count)]
    return min((header[7] for header in headers if header[0] == _LOADED), default=PAGE_BYTES)


def misaligned(content: bytes) -> bool:
    """Whether a buffer of a TFLite file does not lie on ``BUFFER_BYTES``, or the file cannot be read.

    A flatbuffer by hand (https://flatbuffers.dev/internals): field 4 of the Model is the vector of Buffers, field 0 of
    a Buffer its bytes.
    """

    def number(place: int) -> int:
        return int(struct.unpack_from("<I", content, place)[0])

    def field(table: int, index: int) -> int:
        shape = table - int(struct.unpack_from("<i", content, table)[0])
        length = _short(content, shape)
        offset = _short(content, shape + 4 + 2 * index) if 4 + 2 * index < length else 0
        return table + offset if offset else 0

    try:
        buffers = field(number(0), 4)
        vector = buffers + number(buffers)
        if vector + 4 + 4 * number(vector) > len(content):
            return True
        for place in range(vector + 4, vector + 4 + 4 * number(vector), 4):
            one = field(place + number(place), 0)
            if one and number(one + number(one)) and (one + number(one) + 4) % BUFFER_BYTES:
                return True
    except struct.error:
        return True
    return False


def _short(content: bytes, place: int) -> int:
    """A number of 16 bits; before the first byte there is none, where Python would count from the end.

    Raises:
        struct.error: it does not lie in the content.
    """
    if place < 0:
        raise struct.error
    return int(struct.unpack_from("<H", content, place)[0])
