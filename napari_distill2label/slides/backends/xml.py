"""XML of unknown origin: looked over before a parser that builds a tree of it takes minutes, or the stack ends."""

from xml.parsers import expat

_DEEPEST = 100  # levels; OME-XML has about ten
_MOST = 500_000  # elements; a stack of thousands of planes has some ten thousand


class BadXmlError(ValueError):
    """XML that no microscope writes; the text says why."""


def check_xml(text: str | bytes) -> None:
    """`BadXmlError` for XML that is nested too deeply, has too many elements, or defines entities.

    What is no XML at all passes: whoever reads it says so.
    """
    depth = count = 0

    def begin(*_: object) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > _DEEPEST:
            raise BadXmlError(f"its XML is nested more than {_DEEPEST} levels deep")
        if count > _MOST:
            raise BadXmlError(f"its XML has more than {_MOST} elements")

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def entity(*_: object) -> None:
        raise BadXmlError("its XML defines entities of its own")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.EntityDeclHandler = begin, end, entity
    try:
        parser.Parse(text, True)
    except expat.ExpatError:
        return
