"""Reads a pickle into plain values by rules of its own: a file's instructions are data here.

Python's own unpickler obeys the file in more than the names that it looks up: a few bytes make it
reserve gigabytes (a memo index), overflow the stack (hash of a deep key), or write into whatever
object the file found. This one builds dicts, lists, tuples, text and numbers, asks a table for all
that has a name, and has a bound on everything.
"""

from __future__ import annotations

import codecs
import pickle
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from models.checkpoints.pickle_values import (
    Budget,
    Build,
    Named,
    Opaque,
    Stateful,
    check_key,
    not_allowed,
)
from models.errors import CheckpointError

MAX_INSTRUCTIONS = 1_000_000  # the file of a trainer of 400 tensors has about 15,000
_MAX_NAME = 256  # characters of a module or of a name in one
_MAX_INT_BYTES = 64
_MAX_TEXT_LINE = 1 << 30  # the oldest protocol has the content of an array in one line of text

_SIMPLE: dict[int, object] = {ord("N"): None, 0x88: True, 0x89: False}
# Values of fixed size, and those that come after their length.
_FIXED = {ord(k): struct.Struct(f) for k, f in (("J", "<i"), ("K", "<B"), ("M", "<H"), ("G", ">d"))}


def _latin1(data: bytes) -> str:
    return data.decode("latin1")


def _utf8(data: bytes) -> str:
    return data.decode("utf-8")


_COUNTED: dict[int, tuple[int, Callable[[bytes], object]]] = {
    ord("T"): (
        4,
        _latin1,
    ),  # latin1 maps every byte to itself: Python 2's text gives its bytes back
    ord("U"): (1, _latin1),
    ord("B"): (4, bytes),
    ord("C"): (1, bytes),
    0x8E: (8, bytes),
    0x96: (8, bytes),  # a bytearray
    ord("X"): (4, _utf8),
    0x8C: (1, _utf8),
    0x8D: (8, _utf8),
}
_INTS = {0x8A: 1, 0x8B: 4}
_SHORT_TUPLES = {0x85: 1, 0x86: 2, 0x87: 3}
_MEMO_PUT = {ord("q"): 1, ord("r"): 4}
_MEMO_GET = {ord("h"): 1, ord("j"): 4}
_REFUSED = {
    0x82: "the registry of extensions (copyreg)",
    0x83: "the registry of extensions (copyreg)",
    0x84: "the registry of extensions (copyreg)",
    0x97: "buffers outside of the file",
    0x98: "buffers outside of the file",
}


class Machine:
    """One pickle being read.

    Args:
        file: where it begins; afterwards the file stands behind it.
        size: bytes of the whole file: nothing is read beyond, and no length believed.
        names: what the names in it stand for.
        persistent: what a persistent id stands for; None refuses them.
        budget: of what the calls copy.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        size: int,
        names: Mapping[str, Build],
        budget: Budget,
        persistent: Callable[[object], object] | None = None,
    ) -> None:
        self._file = file
        self._size = size
        self._names = names
        self._persistent = persistent
        self._budget = budget
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._found: dict[str, Named] = {}

    def load(self) -> Any:
        """The value.

        Raises:
            CheckpointError: the file asks for what is not allowed, or for too much.
            pickle.UnpicklingError: it is no pickle, or cut off.
        """
        read = self._file.read
        try:
            for _ in range(MAX_INSTRUCTIONS):
                code = read(1)
                if not code:
                    raise pickle.UnpicklingError("it ends too early")
                if code == b".":
                    return self._stack.pop()
                self._step(code[0])
        except (IndexError, KeyError, ValueError, OverflowError, struct.error):
            raise pickle.UnpicklingError("its instructions make no sense") from None
        raise CheckpointError(
            f"The file has more than {MAX_INSTRUCTIONS} pickled values, too many for weights."
        )

    # --- reading ----------------------------------------------------------------------------------

    def _read(self, count: int) -> bytes:
        data = self._file.read(count) if count <= self._size else b""
        if len(data) != count:
            raise pickle.UnpicklingError("it ends too early")
        return data

    def _read_count(self, width: int) -> int:
        return int.from_bytes(self._read(width), "little")

    def _read_line(self, limit: int = _MAX_NAME + 1) -> bytes:
        line = self._file.readline(limit)
        if len(line) == limit and not line.endswith(b"\n"):
            raise CheckpointError(
                f"The file has a number or a name of over {_MAX_NAME} characters."
            )
        if not line.endswith(b"\n"):
            raise pickle.UnpicklingError("it ends too early")
        return line[:-1]

    def _read_int(self, width: int) -> int:
        count = self._read_count(width)
        if count > _MAX_INT_BYTES:
            raise CheckpointError(f"The file has a whole number of {count} bytes.")
        return int.from_bytes(self._read(count), "little", signed=True)

    # --- instructions -----------------------------------------------------------------------------

    def _step(self, code: int) -> None:
        stack = self._stack
        if code in _MEMO_PUT:
            self._memo[self._read_count(_MEMO_PUT[code])] = stack[-1]
        elif code in _MEMO_GET:
            stack.append(self._memo[self._read_count(_MEMO_GET[code])])
        elif code in _COUNTED:
            width, decode = _COUNTED[code]
            stack.append(decode(self._read(self._read_count(width))))
        elif code in _FIXED:
            stack.append(_FIXED[code].unpack(self._read(_FIXED[code].size))[0])
        elif code in _SIMPLE:
            stack.append(_SIMPLE[code])
        elif code in _SHORT_TUPLES:
            count = _SHORT_TUPLES[code]
            if len(stack) < count:
                raise IndexError
            stack[-count:] = [tuple(stack[-count:])]
        elif code in _INTS:
            stack.append(self._read_int(_INTS[code]))
        elif code in _REFUSED:
            raise CheckpointError(f"The file asks for {_REFUSED[code]}, which weights do not need.")
        else:
            action = _ACTIONS.get(code)
            if action is None:
                raise pickle.UnpicklingError("its instructions make no sense")
            action(self)

    def _pop_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _drop_mark(self) -> None:
        self._pop_mark()

    def _protocol(self) -> None:
        self._read(1)

    def _frame(self) -> None:
        self._read(8)  # a hint for buffering

    def _frozen_set(self) -> None:
        self._pop_mark()
        self._stack.append(Opaque("frozenset"))

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _memo_put_text(self) -> None:
        self._memo[int(self._read_line())] = self._stack[-1]

    def _memo_get_text(self) -> None:
        self._stack.append(self._memo[int(self._read_line())])

    def _number_text(self) -> None:
        line = self._read_line()
        # The first two are how the oldest protocol writes False and True.
        flags: dict[bytes, int] = {b"00": False, b"01": True}
        self._stack.append(flags[line] if line in flags else int(line.removesuffix(b"L")))

    def _string_text(self) -> None:
        line = self._read_line(_MAX_TEXT_LINE).strip()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            raise pickle.UnpicklingError("its instructions make no sense")
        self._stack.append(codecs.escape_decode(line[1:-1])[0].decode("latin1"))

    def _unicode_text(self) -> None:
        text = self._read_line(_MAX_TEXT_LINE).decode("raw-unicode-escape")
        text.encode()  # half a surrogate pair is no text that could be written anywhere
        self._stack.append(text)

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):  # a set
            raise pickle.UnpicklingError("its instructions make no sense")

    def _append(self) -> None:
        item = self._stack.pop()
        self._extend([item])

    def _update(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise pickle.UnpicklingError("its instructions make no sense")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[check_key(key)] = value

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _tuple(self) -> None:
        items = self._pop_mark()
        self._stack.append(tuple(items))

    def _list(self) -> None:
        items = self._pop_mark()
        self._stack.append(items)

    def _dict(self) -> None:
        items = self._pop_mark()
        self._stack.append({})
        self._update(items)

    # --- names ------------------------------------------------------------------------------------

    def _find(self, module: object, name: object) -> Named:
        if not isinstance(module, str) or not isinstance(name, str):
            raise pickle.UnpicklingError("its instructions make no sense")
        if max(len(module), len(name)) > _MAX_NAME:
            raise CheckpointError(f"The file refers to a name of over {_MAX_NAME} characters.")
        full = f"{module}.{name}"
        if full not in self._found:
            if full not in self._names:
                raise not_allowed(full)
            self._found[full] = Named(full, self._names[full])
        return self._found[full]

    def _global(self) -> None:
        module, name = _utf8(self._read_line()), _utf8(self._read_line())
        self._stack.append(self._find(module, name))

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(self._find(module, name))

    def _instance(self) -> None:
        arguments = tuple(self._pop_mark())
        named = self._find(_utf8(self._read_line()), _utf8(self._read_line()))
        self._stack.append(self._built(named, arguments))

    def _object(self) -> None:
        named, *arguments = self._pop_mark()
        self._stack.append(self._built(named, tuple(arguments)))

    def _reduce(self) -> None:
        arguments, named = self._stack.pop(), self._stack.pop()
        self._stack.append(self._built(named, arguments))

    def _new_with_keywords(self) -> None:
        if self._stack.pop() != {}:
            raise CheckpointError(
                "The file makes an object by keywords, which weights do not need."
            )
        self._reduce()

    def _built(self, named: object, arguments: object) -> object:
        if not isinstance(named, Named) or not isinstance(arguments, tuple):
            raise CheckpointError(
                f"The file calls a {type(named).__name__}, which is not allowed; nothing was executed."
            )
        try:
            return named.build(self._budget, *arguments)
        except TypeError:  # other arguments than ours takes
            raise CheckpointError(f"The file uses {named.name} in an unknown way.") from None

    def _set_state(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, Stateful):
            target.set_state(self._budget, state)
        # What else PyTorch stores beside a dict (its _metadata) or an object is not needed.
        elif not isinstance(target, dict | Opaque):
            raise CheckpointError(
                f"The file changes a {type(target).__name__}, which is not allowed; nothing was "
                "executed."
            )

    def _persistent_id(self) -> None:
        if self._persistent is None:
            raise pickle.UnpicklingError(
                "persistent ids belong to torch.save, not to a plain pickle"
            )
        self._stack.append(self._persistent(self._stack.pop()))


_ACTIONS: dict[int, Callable[[Machine], None]] = {
    0x80: Machine._protocol,
    0x95: Machine._frame,
    ord("("): Machine._mark,
    ord("0"): Machine._pop,
    ord("1"): Machine._drop_mark,
    ord("2"): lambda m: m._stack.append(m._stack[-1]),
    0x94: Machine._memoize,
    ord("p"): Machine._memo_put_text,
    ord("g"): Machine._memo_get_text,
    ord("I"): Machine._number_text,
    ord("L"): Machine._number_text,
    ord("F"): lambda m: m._stack.append(float(m._read_line())),
    ord("S"): Machine._string_text,
    ord("V"): Machine._unicode_text,
    ord(")"): lambda m: m._stack.append(()),
    ord("]"): lambda m: m._stack.append([]),
    ord("}"): lambda m: m._stack.append({}),
    0x8F: lambda m: m._stack.append(Opaque("set")),
    ord("t"): Machine._tuple,
    ord("l"): Machine._list,
    ord("d"): Machine._dict,
    0x91: Machine._frozen_set,
    ord("a"): Machine._append,
    ord("e"): lambda m: m._extend(m._pop_mark()),
    0x90: lambda m: m._extend(m._pop_mark()),
    ord("s"): Machine._set_item,
    ord("u"): lambda m: m._update(m._pop_mark()),
    ord("c"): Machine._global,
    0x93: Machine._stack_global,
    ord("i"): Machine._instance,
    ord("o"): Machine._object,
    ord("R"): Machine._reduce,
    0x81: Machine._reduce,  # cls.__new__(cls, *arguments): our stand-ins make no difference
    0x92: Machine._new_with_keywords,
    ord("b"): Machine._set_state,
    ord("Q"): Machine._persistent_id,
}
