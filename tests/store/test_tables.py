import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.store.tables import read_table


@pytest.fixture
def table(tmp_path):
    def write(content: str | bytes):
        path = tmp_path / "table.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_cells_are_stripped_and_empty_lines_skipped(table):
    path = table("slide_id, x \r\n a , 1 \r\n\r\n,,\r\n".replace(",,", ",") + '"b,c",2\r\n')
    assert read_table(path, ("slide_id", "x")) == [{"slide_id": "a", "x": "1"}, {"slide_id": "b,c", "x": "2"}]


def test_a_byte_order_mark_and_non_ascii_text_are_read(table):
    rows = read_table(table(b"\xef\xbb\xbfslide_id,label\nStra\xc3\x9fe 1,\xe9\x99\xbd\xe6\x80\xa7\n"), ("slide_id",))
    assert rows == [{"slide_id": "Straße 1", "label": "陽性"}]


def test_headers_have_aliases_in_any_case(table):
    aliases = {"slide_id": ("slide", "wsi"), "mpp": ()}
    assert read_table(table("WSI,MPP\na,1\n"), (), aliases) == [{"slide_id": "a", "mpp": "1"}]
    assert read_table(table("Slide_ID,X\na,1\n"), ("slide_id", "x")) == [{"slide_id": "a", "x": "1"}]
    # beside the real column an alias is a column of its own
    assert read_table(table("slide,slide_id\na,b\n"), (), aliases) == [{"slide": "a", "slide_id": "b"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; it needs a header with slide_id, x"),
        ("\n", "has no column 'slide_id'"),
        ("slide_id,x\n", "has a header but no row"),
        ("slide_id,x\n,\n", "has a header but no row"),
        ("slide_id,y\na,1\n", "has no column 'x'; its header is slide_id, y"),
        ("slide_id,x,x\na,1,2\n", "has the column 'x' twice"),
        ("slide_id,x\na,1\nb\n", "line 3 has 1 cells, the header has 2"),
        ("slide_id,x\na,1,2\n", "line 2 has 3 cells"),
        (b"slide_id,x\n\xff\xfe,1\n", "is not a CSV file in UTF-8"),
        ('slide_id,x\n"a,1\n', "is not a CSV file in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is not a CSV file in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_plain_line(table, content, message):
    path = table(content)
    with pytest.raises(CohortError, match=rf"^[^\n]*table\.csv: {message}[^\n]*$"):
        read_table(path, ("slide_id", "x"))


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(CohortError, match=r"no\.csv: no such file"):
        read_table(tmp_path / "no.csv", ())
    with pytest.raises(CohortError, match="cannot be read"):
        read_table(tmp_path, ())
