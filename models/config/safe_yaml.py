"""YAML as plain values, from files that nobody vouches for: no tag constructs an object.

PyYAML only parses here; the values are built from its node graph by the few rules below, after the
graph was measured. That keeps alias bombs out of memory and every tag in one table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from models.config.lazy_tags import TARGET_KEY, is_lazy_dump, replace_python_tags_
from models.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_NODES = 100_000
MAX_DEPTH = 64

_CORE = "tag:yaml.org,2002:"
_SEQUENCE_TAGS = {_CORE + "seq", _CORE + "python/tuple"}
_EVAL_TAG = _CORE + "python/object/apply:eval"
_MERGE_TAG = _CORE + "merge"

_NUMBERS = {_CORE + "int", _CORE + "float"}
_MAX_NUMBER = 100  # characters
_constructor = SafeConstructor()
_SCALARS: dict[str, Callable[[ScalarNode], Any]] = {
    _CORE + "null": lambda node: None,
    _CORE + "bool": _constructor.construct_yaml_bool,
    _CORE + "int": _constructor.construct_yaml_int,
    _CORE + "float": _constructor.construct_yaml_float,
    _CORE + "str": lambda node: node.value,
    _CORE + "value": lambda node: node.value,  # a lone "="
    _CORE + "python/unicode": lambda node: node.value,
    _CORE + "python/str": lambda node: node.value,
}

_NUMBER = r"\d{1,9}(?:\.\d{0,9})?"
_POWER = rf"x\s*\*\s*({_NUMBER})\s*\*\*\s*\(\s*({_NUMBER})\s*/\s*({_NUMBER})\s*\)"
_POWER_PATTERN = re.compile(_POWER)
# [[x, x * 2**(1.0/3), x * 2**(2.0/3)] for x in [32, 64]]: octave scales of RetinaNet's anchors
_OCTAVES_PATTERN = re.compile(
    rf"\[\s*\[\s*(?P<terms>(?:x|{_POWER})(?:\s*,\s*(?:x|{_POWER}))*)\s*,?\s*\]"
    rf"\s*for\s+x\s+in\s*\[\s*(?P<sizes>{_NUMBER}(?:\s*,\s*{_NUMBER})*)\s*,?\s*\]\s*\]"
)


class _Loader(yaml.SafeLoader):
    """A loader that leaves dates as the text they are."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _CORE + "timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(data: bytes, name: str) -> dict[str, Any]:
    """Returns the mapping that a YAML document holds.

    In a dumped lazy config a few Python tags are allowed, and come as plain mappings; see
    :mod:`models.config.lazy_tags`.

    Args:
        data: the file's content.
        name: what error messages call the file.

    Raises:
        ConfigError: it is not text, not YAML, not a mapping, too large, has a duplicate key or a
            tag that is not allowed.
    """
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{name} is larger than {MAX_BYTES >> 20} MiB, too large for a config.")
    root = _compose(data, name)
    if root is None:
        raise ConfigError(f"{name} is empty. It should hold a Detectron2 config.")
    _measure(root, name)
    if is_lazy_dump(root):
        replace_python_tags_(root)
    else:
        _refuse_calls(root, name)
    if not isinstance(root, MappingNode):
        raise ConfigError(f"{name} is not a config: its top level must be keys such as MODEL.")
    values = _construct(root, name)
    if not isinstance(values, dict):
        raise ConfigError(f"{name} is not a config: its top level must be keys such as MODEL.")
    return values


def parse_plain(data: bytes, name: str) -> Any:
    """Returns the value of a YAML document that is no config; None of an empty one.

    Args:
        data: the file's content.
        name: what error messages call the file.

    Raises:
        ConfigError: see :func:`parse`.
    """
    root = _compose(data, name)
    if root is None:
        return None
    _measure(root, name)
    return _construct(root, name)


def parse_scalar(text: str) -> Any:
    """Returns the value that a YAML text such as ``true`` or ``[p2, p3]`` holds.

    Text that is no such value comes back unchanged.
    """
    try:
        root = _compose(text.encode(), "value")
        if root is None:
            return text
        _measure(root, "value")
        return _construct(root, "value")
    except (ConfigError, UnicodeEncodeError):
        return text


def _compose(data: bytes, name: str) -> Node | None:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{name} is not a text file. Is it really YAML?") from None
    loader = None
    try:
        loader = _Loader(text)
        node: Node | None = loader.get_single_node()
    except RecursionError:
        raise ConfigError(f"{name} is nested too deeply.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not valid YAML: {_reason(error)}.") from None
    finally:
        if loader is not None:
            loader.dispose()
    return node


def _reason(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    mark = getattr(error, "problem_mark", None)
    return f"{problem} (line {mark.line + 1})" if mark is not None else str(problem)


def _measure(root: Node, name: str) -> None:
    """Refuses graphs whose values would be too many or too deep, or contain themselves.

    A node's size counts what its aliases stand for; each node is sized once, so that a few lines
    which would expand to billions of values are refused without expanding them.
    """
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size_of(node: Node, depth: int) -> int:
        if id(node) in open_nodes:
            raise ConfigError(f"{name} has an alias to itself{_at(node)}.")
        if depth > MAX_DEPTH:
            raise ConfigError(f"{name} is nested too deeply{_at(node)}.")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            total = 1 + sum(size_of(child, depth + 1) for child in _children(node))
            open_nodes.remove(id(node))
            if total > MAX_NODES:
                raise ConfigError(f"{name} stands for more than {MAX_NODES} values.")
            sizes[id(node)] = total
        return sizes[id(node)]

    size_of(root, 0)


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, SequenceNode):
        yield from node.value


def _refuse_calls(root: Node, name: str) -> None:
    """``_target_`` says what to call: only a whole lazy config may hold it, not a part of one."""
    seen: set[int] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, MappingNode) and any(key.value == TARGET_KEY for key, _ in node.value):
            raise ConfigError(
                f"{name} has _target_ keys{_at(node)}, as a dumped lazy config does, but no "
                "model._target_. Use the config.yaml that Detectron2 wrote beside the checkpoint."
            )
        pending.extend(_children(node))


def _construct(node: Node, name: str) -> Any:
    if isinstance(node, ScalarNode) and node.tag in _SCALARS:
        _check_scalar(node, name)
        try:
            return _SCALARS[node.tag](node)
        except (ValueError, KeyError, IndexError, OverflowError):
            raise ConfigError(
                f"{name}: {node.value[:40]!r} is not a {_short(node.tag)}{_at(node)}."
            ) from None
    if isinstance(node, SequenceNode):
        if node.tag in _SEQUENCE_TAGS:
            return [_construct(item, name) for item in node.value]
        if node.tag == _EVAL_TAG:
            return _octave_scales(node, name)
    if isinstance(node, MappingNode) and node.tag == _CORE + "map":
        return _construct_mapping(node, name)
    raise ConfigError(
        f"{name} uses the tag {_short(node.tag)}{_at(node)}, which is not allowed; nothing was "
        "executed. Replace it by the plain value that it stands for.",
        tag=_short(node.tag),
        line=node.start_mark.line + 1,
    )


def _check_scalar(node: ScalarNode, name: str) -> None:
    """Refuses numbers so long that to read or to print them takes for ever, and half characters."""
    if node.tag in _NUMBERS and len(node.value) > _MAX_NUMBER:
        raise ConfigError(
            f"{name}: {node.value[:40]!r}... is not a {_short(node.tag)}{_at(node)}: it is too long."
        )
    try:
        node.value.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{name} has half of a surrogate pair in a text{_at(node)}.") from None


def _construct_mapping(node: MappingNode, name: str) -> dict[str, Any]:
    own: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if key_node.tag == _MERGE_TAG:
            many = isinstance(value_node, SequenceNode)
            for source in value_node.value if many else [value_node]:
                values = _construct(source, name)
                if not isinstance(values, dict):
                    raise ConfigError(f"{name}: << needs a mapping{_at(source)}.")
                merged = values | merged  # the first one named wins, as YAML says
            continue
        key = _construct(key_node, name)
        if not isinstance(key, str) or not key or "." in key:
            raise ConfigError(
                f"{name}: {key!r} cannot be a key{_at(key_node)}; keys are names without dots."
            )
        if key in own:
            raise ConfigError(f"{name} has the key {key} twice{_at(key_node)}. Keep one.")
        own[key] = _construct(value_node, name)
    return merged | own


def _octave_scales(node: SequenceNode, name: str) -> list[list[float]]:
    """The one arithmetic that Detectron2's base configs hold, recognised and computed here."""
    text = node.value[0].value if len(node.value) == 1 else None
    match = _OCTAVES_PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ConfigError(
            f"{name} uses the tag !!python/object/apply:eval{_at(node)} with something other than "
            "the anchor sizes of Base-RetinaNet.yaml; nothing was executed. Replace it by the "
            "plain value that it stands for.",
            tag="!!python/object/apply:eval",
            line=node.start_mark.line + 1,
        )
    sizes = [_number(size) for size in match["sizes"].split(",")]
    scales: list[float | None] = []
    try:
        for term in match["terms"].split(","):
            power = _POWER_PATTERN.fullmatch(term.strip())
            if power is None:
                scales.append(None)
                continue
            base, numerator, denominator = (float(number) for number in power.groups())
            scales.append(base ** (numerator / denominator))
        return [[size if scale is None else size * scale for scale in scales] for size in sizes]
    except (OverflowError, ZeroDivisionError):
        raise ConfigError(f"{name}: the anchor sizes{_at(node)} are not finite numbers.") from None


def _number(text: str) -> float:
    return float(text) if "." in text else int(text)


def _short(tag: str) -> str:
    return "!!" + tag[len(_CORE) :] if tag.startswith(_CORE) else tag


def _at(node: Node) -> str:
    return f" (line {node.start_mark.line + 1})"
