"""Values held against JSON schemas of an OpenAPI document; a keyword that is not known here is a failure."""

import json
from collections.abc import Iterator
from typing import Any

_ANNOTATIONS = {
    "title",
    "description",
    "default",
    "example",
    "examples",
    "format",
    "contentMediaType",
}
_OF_OBJECTS = {"properties", "required", "additionalProperties"}
_OF_ARRAYS = {"items", "prefixItems", "minItems", "maxItems"}
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def faults(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """What of ``value``, as JSON has it, is not as ``schema`` wants it, each with its place."""
    return list(_faults(value, schema, document, "$"))


def _faults(value: Any, schema: Any, document: dict[str, Any], place: str) -> Iterator[str]:
    for keyword, wanted in schema.items():
        if keyword in _ANNOTATIONS:
            continue
        if keyword == "$ref":
            found = document
            for step in wanted.removeprefix("#/").split("/"):
                found = found[step]
            yield from _faults(value, found, document, place)
        elif keyword == "anyOf":
            tried = [list(_faults(value, choice, document, place)) for choice in wanted]
            if all(tried):
                yield f"{place}: no choice holds, {tried}"
        elif keyword == "type":
            number = isinstance(value, bool) and wanted != "boolean"
            if number or not isinstance(value, _TYPES[wanted]):
                yield f"{place}: {value!r} is no {wanted}"
        elif keyword in ("enum", "const"):
            if value not in (wanted if keyword == "enum" else [wanted]):
                yield f"{place}: {value!r} is not {wanted}"
        elif keyword == "contentSchema":
            for line_number, line in enumerate(value.splitlines()):
                yield from _faults(json.loads(line), wanted, document, f"{place}#{line_number}")
        elif isinstance(value, dict):
            yield from _of_object(value, keyword, schema, document, place)
        elif isinstance(value, list):
            yield from _of_array(value, keyword, schema, document, place)
        elif keyword == "minimum":
            if value is not None and value < wanted:
                yield f"{place}: {value} is below {wanted}"
        elif keyword == "maximum":
            if value is not None and value > wanted:
                yield f"{place}: {value} is above {wanted}"
        elif keyword not in _OF_OBJECTS | _OF_ARRAYS:
            yield f"{place}: the keyword {keyword} is not known"


def _of_object(
    value: dict[str, Any], keyword: str, schema: Any, document: dict[str, Any], place: str
) -> Iterator[str]:
    wanted = schema[keyword]
    if keyword == "properties":
        for key in wanted.keys() & value.keys():
            yield from _faults(value[key], wanted[key], document, f"{place}.{key}")
    elif keyword == "required":
        yield from (f"{place}: {key} is missing" for key in wanted if key not in value)
    elif keyword == "additionalProperties":
        for key in value.keys() - schema.get("properties", {}).keys():
            if wanted is False:
                yield f"{place}: {key} is too much"
            elif wanted is not True:
                yield from _faults(value[key], wanted, document, f"{place}.{key}")
    elif keyword not in _OF_ARRAYS:
        yield f"{place}: the keyword {keyword} is not known"


def _of_array(
    value: list[Any], keyword: str, schema: Any, document: dict[str, Any], place: str
) -> Iterator[str]:
    wanted = schema[keyword]
    first = schema.get("prefixItems", [])
    if keyword == "items":
        for number, item in enumerate(value[len(first) :], len(first)):
            yield from _faults(item, wanted, document, f"{place}[{number}]")
    elif keyword == "prefixItems":
        for number, (item, kind) in enumerate(zip(value, first, strict=False)):
            yield from _faults(item, kind, document, f"{place}[{number}]")
    elif keyword == "minItems":
        if len(value) < wanted:
            yield f"{place}: fewer than {wanted} items"
    elif keyword == "maxItems":
        if len(value) > wanted:
            yield f"{place}: more than {wanted} items"
    elif keyword not in _OF_OBJECTS:
        yield f"{place}: the keyword {keyword} is not known"
