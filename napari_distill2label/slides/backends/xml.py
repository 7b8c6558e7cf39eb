"""Check of XML from outside, before a parser that builds a tree takes minutes or overflows the stack."""

from xml.parsers import expat

DEEPEST = 100  # levels; OME-XML has about ten
_MOST = 500_000  # elements; a stack of thousands of planes has some ten thousand


class BadXmlError(ValueError):
    """XML that no microscope writes; the text states the reason."""


def check_xml(text: str | bytes) -> None:
    """Raise `BadXmlError` for XML that is nested too deeply, has too many elements, or defines entities.

    Text that is not XML passes: its parser reports that.
    """
    depth = count = 0

    def begin(*_: object) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > DEEPEST:
            raise BadXmlError(f"its XML is nested more than {DEEPEST} levels deep")
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
