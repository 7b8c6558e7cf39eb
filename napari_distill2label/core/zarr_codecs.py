"""Codecs of zarr arrays that are safe: reading a chunk must not run code from it."""

from collections.abc import Iterator, Mapping
from typing import Any

# Compression, checksums and plain arithmetic. "pickle" is missing because it runs code from the chunk.
_SAFE = (
    *("blosc", "zlib", "gzip", "bz2", "lzma", "lz4", "zstd", "zfpy", "pcodec", "packbits"),
    *("delta", "shuffle", "bitround", "quantize", "fixedscaleoffset", "astype"),
    *("crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"),
    *("bytes", "transpose", "sharding_indexed"),
)
_SAFE_FAMILY = "imagecodecs_"  # decoders of pictures, in C


def unsafe_codec(array: Any) -> str | None:
    """Return the name of a codec that is not known to be harmless, or None. Nothing is decoded."""
    said = array.metadata.to_dict()
    codecs = said["codecs"] if "codecs" in said else (*(said.get("filters") or ()), said.get("compressor"))
    return next((name for name in _names(codecs) if not _is_safe(name)), None)


def _is_safe(name: str) -> bool:
    name = name.removeprefix("numcodecs.")
    return name in _SAFE or name.startswith(_SAFE_FAMILY)


def _names(codecs: Any) -> Iterator[str]:
    """Yield the names of all codecs, including those inside shards."""
    for codec in codecs:
        if codec is None:
            continue
        said = codec if isinstance(codec, Mapping) else codec.get_config()
        yield str(said.get("id", said.get("name")))
        for inner in ("codecs", "index_codecs"):
            yield from _names(said.get("configuration", {}).get(inner, ()))
