import random
import time

import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.store.tables import csv_table
from napari_distill2label.store.tables.csv_table import (
    Style,
    escape_formula,
    format_table,
    open_table,
    read_table,
    unescape_formula,
)


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
        ("\n", "is empty; it needs a header with slide_id, x"),
        (",,\r\n", "is empty; it needs a header with slide_id, x"),
        ("slide_id,x\n", "has a header but no row"),
        ("slide_id,x\n,\n", "has a header but no row"),
        ("slide_id,y\na,1\n", "has no column 'x'; its header is slide_id, y"),
        ("slide_id,x,x\na,1,2\n", "has the column 'x' twice"),
        ("slide_id,x\na,1\nb\n", "line 3 has 1 cells, the header has 2"),
        ("slide_id,x\na,1,2\n", "line 2 has 3 cells"),
        (b"PK\x03\x04\x14\x00", "is an Excel workbook .* save it as 'CSV UTF-8'"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is an Excel workbook"),
        (b"\x1f\x8b\x08\x00", "is compressed: unpack it first"),
        ("slide_id,Slide ID,x\na,b,1\n", r"has the column 'slide_id' twice \('slide_id' and 'Slide ID'\)"),
        ("slide_id,x,Notes,Notes\na,1,,\n", "has the column 'Notes' twice"),
        ("slide_id;x\na;1;2\n", "line 2 has 3 cells, the header has 2: put a cell that holds the delimiter in quotes"),
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


WANTED = [{"slide_id": "a", "x": "1"}, {"slide_id": "Größe", "x": "0,5"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_what_spreadsheets_save_is_read(table, delimiter, newline, encoding):
    lines = ["slide_id,x", "a,1", 'Größe,"0,5"'] if delimiter == "," else ["slide_id;x", "a;1", "Größe;0,5"]
    text = newline.join(line if delimiter == "," else line.replace(";", delimiter) for line in lines)
    data = text.encode(encoding)
    if encoding == "utf-16-be":
        data = b"\xfe\xff" + data
    assert read_table(table(data), ("slide_id", "x")) == WANTED


@pytest.mark.parametrize(
    "text",
    [
        "sep=,\nslide_id,x\na,1\n", '"sep=;"\r\nslide_id;x\r\na;1\r\n', "SEP=;\nslide_id;x\na;1",
        "sep=\t\nslide_id\tx\na\t1",
        "slide_id,x,\na,1,\n", "slide_id,x,,\na,1,,\n", "slide_id,x\na,1,\n", "slide_id,x\na,1,,,\n",
        ",,\nslide_id,x,\n\n,,\na,1,\n,,\n", '"slide_id","x"\n"a","1"\n', "SLIDE_ID,X\na,1\n", "Slide ID, X\na,1\n",
        "slide-id;x\na;1\n", "\ufeffslide_id,x\na,1\n",
    ],
)  # fmt: skip
def test_the_quirks_of_excel_are_read(table, text):
    assert read_table(table(text), ("slide_id", "x")) == [{"slide_id": "a", "x": "1"}]


def test_cells_that_excel_leaves_out_at_the_end_of_a_row_are_empty(table):
    rows = read_table(table("slide_id,x,note\na,1\nb,2,seen\n"), ("slide_id", "x"))
    assert [row["note"] for row in rows] == ["", "seen"]


def test_the_header_tells_the_delimiter_whatever_the_cells_hold(table):
    assert read_table(table("slide_id,label\na,tumour;necrosis;stroma\n"), ("slide_id", "label"))[0]["label"] == (
        "tumour;necrosis;stroma"
    )
    assert read_table(table("path\na;b.png\n"), ("path",)) == [{"path": "a;b.png"}]
    assert read_table(table('slide_id;"a, b";c\n1;2;3\n'), ("slide_id",)) == [{"slide_id": "1", "a, b": "2", "c": "3"}]


def test_another_encoding_than_utf8_is_said(table):
    read = open_table(table("slide_id\nGröße\n".encode("cp1252")))
    assert read.cells(read.rows[0]) == {"slide_id": "Größe"}
    assert "read as Windows-1252" in str(read.notices[0])
    assert open_table(table("slide_id\nGröße\n")).notices == ()


def test_the_line_of_a_row_is_that_of_the_file(table):
    text = 'sep=,\nslide_id,x\n"a\nb",1\n\nc,2,3\n'
    assert open_table(table(text.replace(",3", ""))).lines == (4, 6)
    with pytest.raises(CohortError, match="line 6 has 3 cells"):
        open_table(table(text))


def test_a_file_that_is_no_table_is_not_read_whole(table, monkeypatch):
    monkeypatch.setattr(csv_table, "LARGEST", 1 << 20)
    with pytest.raises(CohortError, match=r"table\.csv: has more than 1 MB"):
        read_table(table("slide_id\n" + "a\n" * (1 << 20)), ())


def test_a_cell_of_100_kb_is_not_echoed(table):
    with pytest.raises(CohortError) as caught:
        read_table(table("x" * 100_000 + ",slide_id\na,b\n"), ("nothing",))
    assert len(str(caught.value)) < 1000
    assert "has no column 'nothing'" in str(caught.value)


CELLS = [
    "",
    "a",
    "=1+1",
    "+x",
    "-x",
    "-0.5",
    "@a",
    "'=a",
    "''-5",
    "'-5",
    '"',
    'a"b',
    ",",
    ";",
    "a\nb",
    "a\r\nb",
    "a\rb",
    "\t",
]
CELLS += [
    "Größe",
    "病理",
    "o\u0308",
    "\u2028",
    "\x1b[31m",
    "\xa0x",
    "a|b",
    "'",
    "sep=,",
    "#N/A",
    "\ufeffx",
    "=",
    "\x85x",
]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_what_is_written_is_read_again(table, delimiter):
    """Any text in any cell, stripped as cells are."""
    draw = random.Random(7)
    style = Style(delimiter, draw.choice(["\n", "\r\n"]))
    texts = CELLS + ["".join(draw.choices(CELLS, k=draw.randint(1, 4))) for _ in range(400)]
    texts = [text.strip() for text in texts]
    rows = [{"slide_id": f"s{i}", "x": text, "y": draw.choice(texts)} for i, text in enumerate(texts)]
    cells = [["slide_id", "x", "y"], *([escape_formula(cell) for cell in row.values()] for row in rows)]
    assert read_table(table(style.encoded(format_table(cells, style))), ("slide_id", "x", "y")) == rows


def test_formulas_are_neutral_and_come_back():
    draw = random.Random(1)
    texts = CELLS + ["".join(draw.choices("=+-@'\t\r1.a,e", k=draw.randint(0, 6))) for _ in range(5000)]
    for text in texts:
        assert unescape_formula(escape_formula(text)) == text
    for text in ("=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "-1+2"):
        assert escape_formula(text) == "'" + text
    for text in ("-0.5", "+3", "-1e-5", "-0,5", "a=1", "", "normal"):
        assert escape_formula(text) == text


def test_text_that_an_encoding_lacks_is_written_in_utf8():
    assert Style(encoding="cp1252").encoded("Größe") == "Größe".encode("cp1252")
    assert Style(encoding="cp1252").encoded("病理") == "病理".encode("utf-8-sig")
    assert Style(encoding="utf-16-le").encoded("a") == b"\xff\xfea\0"


def test_damaged_tables_are_one_plain_line_each(table):
    """Seeded mutations of a table: it is read, or a `CohortError` names the file; nothing takes long."""
    draw = random.Random(3)
    whole = 'slide_id,path,label\r\n"a",x/a.svs,normal\r\nb,"b,1.svs",tumour;stroma\r\nc,c.tif,\r\n'
    sources = [whole.encode(code) for code in ("utf-8-sig", "utf-16", "cp1252")]
    refused = []
    started = time.monotonic()
    for _ in range(600):
        data = bytearray(draw.choice(sources))
        for _ in range(draw.randint(1, 8)):
            place = draw.randrange(len(data) or 1)
            what = draw.randrange(4)
            if what == 0:
                data[place : place + 1] = bytes([draw.randrange(256)])
            elif what == 1:
                del data[place : place + draw.randint(1, 20)]
            elif what == 2:
                data[place:place] = draw.choice(
                    [b'"', b",", b";", b"\n", b"\0", b"\xff", b"=", b"sep=x\n"]
                ) * draw.randint(1, 9)
            else:
                data[place:place] = data[:place]
        path = table(bytes(data[: 1 << 16]))
        try:
            rows = read_table(path, ("slide_id",), {"path": ("wsi",)})
            assert all(set(row) >= {"slide_id"} for row in rows)
        except CohortError as error:
            refused.append((str(path), str(error)))
    assert 50 < len(refused) < 550
    assert all(line.startswith(path) and "\n" not in line for path, line in refused)
    assert time.monotonic() - started < 120
