"""XML without its dangers: elements, texts and line numbers; document types and entities are refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

from models.training.data.errors import DataError

_MAX_DEPTH = 50


@dataclass
class Element:
    """An element, its text, its line in the file, and what is in it."""

    tag: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str) -> list[Element]:
        """The elements of that name directly in this one."""
        return [child for child in self.children if child.tag == tag]

    def find(self, tag: str) -> Element | None:
        """The first of them."""
        return next((child for child in self.children if child.tag == tag), None)


def parse_xml(data: bytes, name: str) -> Element:
    """The root element of a document.

    Args:
        data: the file.
        name: of it, for messages.

    Raises:
        DataError: it is no XML, or has what annotations do not need and attacks do: a document type,
            with which entities come; names the line.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    root = Element("", 0)
    open_elements = [root]

    def start(tag: str, _: dict[str, str]) -> None:
        if len(open_elements) > _MAX_DEPTH:
            raise DataError(f"{name}, line {parser.CurrentLineNumber}: it is nested too deeply.")
        element = Element(tag, parser.CurrentLineNumber)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(_: str) -> None:
        open_elements.pop()

    def text(found: str) -> None:
        open_elements[-1].text += found

    def refuse(*_: object) -> None:
        raise DataError(
            f"{name}, line {parser.CurrentLineNumber}: it declares a document type (<!DOCTYPE ...>), which "
            "is not read, since entities in it can fill all memory; delete the declaration."
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    # Entities are declared in a document type and nowhere else.
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise DataError(f"{name}, line {error.lineno}: it is no XML ({reason}).") from None
    except (LookupError, ValueError):  # an encoding that Python does not know or cannot decode
        raise DataError(
            f"{name} is in an encoding that cannot be read; save it as UTF-8."
        ) from None
    return root.children[0]
