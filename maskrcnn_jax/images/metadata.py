"""Image files without what stands beside their pixels: texts, colour profiles, notes of editors.

Pillow refuses a PNG with a text of more than a megabyte, or whose note of the camera is damaged,
though its pixels are sound. Without such parts it reads the file.
"""

import struct
from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PARTS = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND")  # eXIf: which way is up
_JPEG = b"\xff\xd8"
# Application segments: 0 and 14 tell the decoder what the colours are, and 1 which way is up.
_JPEG_LEFT_OUT = {0xE0 + number for number in range(1, 16)} - {0xE1, 0xEE} | {0xFE}
_JPEG_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_JPEG_SCAN = 0xDA


def without_metadata(content: bytes) -> bytes | None:
    """Returns an image file with only the parts that its pixels need, and EXIF where it is short.

    Args:
        content: of a file, whole or cut short.

    Returns:
        The content of a file of the same pixels; None where its format is not known here.
    """
    if content.startswith(_PNG):
        return _PNG + b"".join(_png_parts(content))
    if content.startswith(_JPEG):
        return _JPEG + b"".join(_jpeg_parts(content))
    return None


def _png_parts(content: bytes) -> Iterator[bytes]:
    at = len(_PNG)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if kind in _PNG_PARTS:
            yield content[at:end]
        at = end


def _jpeg_parts(content: bytes) -> Iterator[bytes]:
    at = len(_JPEG)
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == _JPEG_SCAN:
            break
        if marker == 0xFF or marker in _JPEG_ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        is_note = marker == 0xE1 and content[at + 4 : at + 8] != b"Exif"
        if marker not in _JPEG_LEFT_OUT and not is_note:
            yield content[at:end]
        at = end
    yield content[at:]
