import gzip
import io
import tracemalloc

from napari_distill2label.core.foreign_files import read_at_most


def test_no_more_is_read_than_the_limit():
    assert read_at_most(io.BytesIO(b"abc"), 3) == b"abc"
    assert read_at_most(io.BytesIO(b"abcde"), 3) == b"abc"
    data = bytes(3_000_000)
    assert read_at_most(gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(data))), 1 << 22) == data


def test_a_small_file_takes_little_memory_however_much_it_might_have(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    tracemalloc.start()
    with path.open("rb") as file:
        assert read_at_most(file, 1 << 30) == b"abc"
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10_000_000
