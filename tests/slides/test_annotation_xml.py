"""Annotations of ASAP and ImageScope, as these programs write them."""

import numpy as np
import pytest
import shapely

from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.slides import annotation_xml
from napari_distill2label.slides.annotations import find_files, iter_objects, object_name, read_objects
from napari_distill2label.slides.regions import read_regions
from napari_distill2label.store.tables.points import label_patches, read_points

ASAP = """<?xml version="1.0"?>
<ASAP_Annotations>
 <Annotations>
  <Annotation Name="Annotation 0" Type="Polygon" PartOfGroup="Tumor" Color="#F4FA58"><Coordinates>
   <Coordinate Order="1" X="40" Y="0"/><Coordinate Order="0" X="0" Y="0"/>
   <Coordinate Order="2" X="40" Y="20"/><Coordinate Order="3" X="0" Y="20"/></Coordinates></Annotation>
  <Annotation Name="Annotation 1" Type="Rectangle" PartOfGroup="Exclusion" Color="#000000"><Coordinates>
   <Coordinate Order="0" X="0" Y="0"/><Coordinate Order="1" X="10,0" Y="0"/>
   <Coordinate Order="2" X="10" Y="10"/><Coordinate Order="3" X="0" Y="10"/></Coordinates></Annotation>
  <Annotation Name="n" Type="Dot" PartOfGroup="None" Color="#0"><Coordinates>
   <Coordinate Order="0" X="35.5" Y="35.5"/></Coordinates></Annotation>
  <Annotation Name="p" Type="PointSet" PartOfGroup="normal" Color="#0"><Coordinates>
   <Coordinate Order="0" X="5" Y="35"/><Coordinate Order="1" X="15" Y="35"/></Coordinates></Annotation>
  <Annotation Name="m" Type="Measurement" PartOfGroup="None" Color="#0"><Coordinates>
   <Coordinate Order="0" X="5" Y="35"/><Coordinate Order="1" X="15" Y="35"/></Coordinates></Annotation>
 </Annotations>
 <AnnotationGroups><Group Name="Tumor" PartOfGroup="None" Color="#00ff00"><Attributes/></Group></AnnotationGroups>
</ASAP_Annotations>"""

IMAGESCOPE = """<Annotations MicronsPerPixel="0.499">
 <Annotation Id="1" Name="" ReadOnly="0" LineColor="65280" Visible="1" Type="4"><Regions>
  <RegionAttributeHeaders/>
  <Region Id="1" Type="0" Text="tumour" NegativeROA="0"><Vertices>
   <Vertex X="0" Y="0" Z="0"/><Vertex X="40" Y="0" Z="0"/>
   <Vertex X="40" Y="20" Z="0"/><Vertex X="0" Y="20" Z="0"/></Vertices></Region>
  <Region Id="2" Type="1" Text="" NegativeROA="1"><Vertices>
   <Vertex X="0" Y="0" Z="0"/><Vertex X="10" Y="10" Z="0"/></Vertices></Region>
  <Region Id="3" Type="4" Text="ruler" NegativeROA="0"><Vertices>
   <Vertex X="0" Y="0" Z="0"/><Vertex X="10" Y="10" Z="0"/></Vertices></Region>
 </Regions></Annotation>
 <Annotation Id="2" Name="normal"><Regions><Region Id="1" Type="2" Text="x"><Vertices>
   <Vertex X="0" Y="20" Z="0"/><Vertex X="40" Y="40" Z="0"/></Vertices></Region></Regions></Annotation>
</Annotations>"""

GRID = PatchGrid.over((40, 40), PatchSettings(size_px=10))


@pytest.fixture
def write(tmp_path):
    def make(text, name="S 1.xml"):
        (tmp_path / name).write_text(text, "utf-8")
        return tmp_path / name

    return make


def test_asap(write):
    found = read_objects(write(ASAP))
    assert [thing.name for thing in found] == ["Tumor", "Ignore*", "", "normal", ""]
    assert found[0].area.equals(shapely.box(0, 0, 40, 20))
    assert found[1].area.equals(shapely.box(0, 0, 10, 10))
    assert [len(thing.points) for thing in found] == [0, 0, 1, 2, 0]
    marks = read_points(write(ASAP), labelled=True)["S 1"]
    labels = label_patches(marks, GRID, {"Tumor": 1, "": -1, "normal": 0}, 2)
    assert labels.classes.reshape(4, 4).tolist() == [[-1, 1, 1, 1], [1] * 4, [-1] * 4, [0, 0, -1, -1]]
    assert labels.unclear.reshape(4, 4)[0, 0]
    assert labels.unclear.reshape(4, 4)[3, 3]


def test_imagescope(write):
    found = read_objects(write(IMAGESCOPE))
    assert [thing.name for thing in found] == ["tumour", "ruler", "normal"]
    assert found[0].area.equals(shapely.box(0, 0, 40, 20) - shapely.box(0, 0, 10, 10))
    assert found[1].geometry is None
    assert found[2].area.area == pytest.approx(np.pi * 20 * 10, rel=0.01)
    marks = read_points(write(IMAGESCOPE), labelled=True)["S 1"]
    labels = label_patches(marks, GRID, {"tumour": 1, "": -1, "normal": 0, "ruler": -1}, 2).classes.reshape(4, 4)
    assert labels[:2].tolist() == [[-1, 1, 1, 1], [1] * 4]
    assert (labels[2:, 1:3] == 0).all()


def test_as_regions_of_tissue_and_as_a_folder(write, tmp_path):
    assert read_regions(write(ASAP), (100, 100)).area == 40 * 20 - 100
    write(IMAGESCOPE, "S 2.xml")
    assert [object_name(file) for file in find_files(tmp_path)] == ["S 1", "S 2"]
    assert set(read_points(tmp_path, labelled=True)) == {"S 1", "S 2"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<a/>", "neither ASAP"),
        ("no", "no XML"),
        (ASAP.replace('X="35.5"', 'X="nan"'), "'nan' is no coordinate"),
        (ASAP.replace('X="35.5"', ""), "'None' is no coordinate"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><ASAP_Annotations>&b;</ASAP_Annotations>', "defines entities"),
        ("<a>" * 1000, "nested more than"),
    ],
)
def test_what_is_no_annotation_is_said_in_a_line(write, text, said):
    with pytest.raises(CohortError, match=said) as caught:
        read_objects(write(text))
    assert "\n" not in str(caught.value)
    assert "S 1.xml" in str(caught.value)


def test_an_empty_file_has_no_objects(write):
    assert read_objects(write("<ASAP_Annotations><Annotations/></ASAP_Annotations>")) == []


@pytest.mark.parametrize("text", [ASAP, IMAGESCOPE])
def test_any_piece_of_a_file_ends_anywhere(write, monkeypatch, text):
    expected = [(thing.name, thing.geometry) for thing in read_objects(write(text))]
    monkeypatch.setattr(annotation_xml, "PIECE", 7)
    assert [(thing.name, thing.geometry) for thing in read_objects(write(text))] == expected


def test_objects_are_read_one_by_one(write, monkeypatch):
    """A million of them are no more in memory than one, and none is too many."""
    monkeypatch.setattr(annotation_xml, "PIECE", 100)
    good, bad = (f'<Annotation Type="Dot"><Coordinates><Coordinate X="{x}" Y="1"/></Coordinates></Annotation>'
                 for x in ("1", "?"))  # fmt: skip
    objects = iter_objects(write(f"<ASAP_Annotations>{good * 100}{bad}</ASAP_Annotations>"))
    assert next(objects).points.tolist() == [[1, 1]]  # the bad one has not been read yet
    assert sum(1 for _ in zip(range(90), objects, strict=False)) == 90
    with pytest.raises(CohortError, match="object 101: '\\?' is no coordinate"):
        list(objects)


@pytest.mark.long
def test_more_elements_than_any_description_of_a_slide_has(write):
    text = '<Coordinate X="1" Y="2"/>' * 500_001
    (thing,) = read_objects(
        write(f'<ASAP_Annotations><Annotation Type="PointSet">{text}</Annotation></ASAP_Annotations>')
    )
    assert len(thing.points) == 500_001


@pytest.mark.parametrize(
    ("limit", "said"),
    [("LONGEST", "a tag in it is longer than"), ("MOST_POINTS", "object 1: it has more than 3 points")],
)
def test_bombs_are_refused(write, monkeypatch, limit, said):
    monkeypatch.setattr(annotation_xml, "PIECE", 10)
    monkeypatch.setattr(annotation_xml, limit, 3)
    text = ASAP.replace("<Annotations>", f"<Annotations a='{'b' * 100}'>") if limit == "LONGEST" else ASAP
    with pytest.raises(CohortError, match=said):
        read_objects(write(text))
