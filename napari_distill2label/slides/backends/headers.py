"""Headers of compressed pictures, read without decoding."""

from typing import NamedTuple

JPEG_2000 = b"\xff\x4f\xff\x51"  # SOC and SIZ, how its codestream begins
_JPEG = b"\xff\xd8"
_PNG = b"\x89PNG\r\n\x1a\n"


class Codestream(NamedTuple):
    """JPEG 2000's marker SIZ: sizes in pixels, and the bits of each channel (−1 for signed values)."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    depths: tuple[int, ...]


def codestream(data: bytes) -> Codestream | None:
    """Return the codestream header of JPEG 2000, bare or in a file of boxes; None for another format."""
    start = data.find(JPEG_2000, 0, 1_000_000)
    siz = data[start + len(JPEG_2000) : start + 50_000]
    if start < 0 or len(siz) < 38:
        return None
    # Lsiz, Rsiz (2 bytes each); X, Y, XO, YO, XT, YT, XTO, YTO (4 each); number of channels (2); 3 bytes of each
    right, bottom, left, top, tile_width, tile_height = (int.from_bytes(siz[4 + 4 * i : 8 + 4 * i]) for i in range(6))
    channels = int.from_bytes(siz[36:38])
    depths = tuple((value & 0x7F) + 1 if value < 0x80 else -1 for value in siz[38 : 38 + 3 * channels : 3])
    return Codestream(right - left, bottom - top, tile_width, tile_height, depths)


def declared_px(data: bytes) -> int:
    """Return the number of pixels in the header of a JPEG, JPEG 2000, PNG or WebP picture; 0 for another format."""
    if data.startswith(_PNG):
        return int.from_bytes(data[16:20]) * int.from_bytes(data[20:24])
    if data.startswith(_JPEG):
        return _of_jpeg(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _of_webp(data)
    found = codestream(data[:50_000])
    return 0 if found is None else max(0, found.width) * max(0, found.height)


def _of_jpeg(data: bytes) -> int:
    """Return the number of pixels in the frame's header: SOF0 to SOF15 without DHT, JPG and DAC."""
    position = 2
    while data[position : position + 1] == b"\xff" and position + 9 < len(data):
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[position + 5 : position + 7]) * int.from_bytes(data[position + 7 : position + 9])
        position += 1 if marker == 0xFF else 2 + int.from_bytes(data[position + 2 : position + 4])
    return 0


def _of_webp(data: bytes) -> int:
    kind = data[12:16]
    if kind == b"VP8X":
        return (int.from_bytes(data[24:27], "little") + 1) * (int.from_bytes(data[27:30], "little") + 1)
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1)
    return (int.from_bytes(data[26:28], "little") & 0x3FFF) * (int.from_bytes(data[28:30], "little") & 0x3FFF)
