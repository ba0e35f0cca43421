"""The Python tags of a dumped lazy config, as plain mappings: nothing is constructed or imported.

Two kinds of tag are known; any other is left, and refused where tags are refused.

- ``!!python/object:...ShapeSpec {channels: 256, ...}`` becomes a mapping with a ``_target_``, the
  form that calls have in a lazy config anyway.
- ``!!python/name:a.b.C`` becomes ``{_name_: a.b.C}``: the thing itself, not a call of it.
"""

from __future__ import annotations

import urllib.parse

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_CORE = "tag:yaml.org,2002:"
_OBJECT = _CORE + "python/object:"
_NAME = _CORE + "python/name:"
# Where Detectron2 has had the class.
_PLAIN_OBJECTS = {
    "detectron2.layers.shape_spec.ShapeSpec",
    "detectron2.layers.ShapeSpec",
}

TARGET_KEY = "_target_"
NAME_KEY = "_name_"
LAMBDA = "<lambda>"
LAZY_KEY = "LAZY_MODEL"
"""Where a Config keeps the model of a lazy config."""


def is_lazy_dump(root: Node) -> bool:
    """Whether a document is a dumped lazy config: its ``model`` says what to call.

    What :meth:`models.Config.dump` writes of one, with ``LAZY_MODEL``, is one too.
    """
    trees = [_value(root, key) for key in ("model", LAZY_KEY)]
    return any(tree is not None and _value(tree, TARGET_KEY) is not None for tree in trees)


def replace_python_tags_(root: Node) -> None:
    """Rewrites the known tags below ``root`` in place; a node that aliases share is rewritten once."""
    done: dict[int, Node] = {}

    def plain(node: Node) -> Node:
        if id(node) not in done:
            done[id(node)] = node
            done[id(node)] = rewritten(node)
        return done[id(node)]

    def rewritten(node: Node) -> Node:
        if isinstance(node, SequenceNode):
            node.value = [plain(item) for item in node.value]
        elif isinstance(node, MappingNode):
            node.value = [(key, plain(value)) for key, value in node.value]
            path = node.tag.removeprefix(_OBJECT)
            if path in _PLAIN_OBJECTS:
                node.tag = _CORE + "map"
                node.value.append(_pair(TARGET_KEY, path, node))
        elif isinstance(node, ScalarNode) and node.tag.startswith(_NAME) and not node.value:
            path = urllib.parse.unquote(node.tag.removeprefix(_NAME))
            return MappingNode(
                _CORE + "map", [_pair(NAME_KEY, path, node)], node.start_mark, node.end_mark
            )
        return node

    plain(root)


def _pair(key: str, value: str, at: Node) -> tuple[Node, Node]:
    marks = (at.start_mark, at.end_mark)
    return ScalarNode(_CORE + "str", key, *marks), ScalarNode(_CORE + "str", value, *marks)


def _value(node: Node, name: str) -> Node | None:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value == name:
                found: Node = value
                return found
    return None
