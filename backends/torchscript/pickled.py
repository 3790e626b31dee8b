"""The state of a TorchScript archive, read from its pickles without unpickling: no name in them is looked up.

torch writes few of pickle's operations. They are followed here on a stack of inert values: a class is its name, a call
is a record of what would be called, and only strings are keys, so that nothing foreign is executed or hashed.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

OPERATIONS_LIMIT = 5_000_000


@dataclass(eq=False, slots=True)
class Called:
    """An object that the pickle would make: what makes it, from what, and the state that it would be given."""

    name: str
    """Full name of a class or function: "torch._utils._rebuild_tensor_v2"."""
    arguments: Any = ()
    state: Any = None


@dataclass(frozen=True, eq=False, slots=True)
class Stored:
    """A reference to a record of the archive."""

    identity: Any
    """("storage", type, record, device, number of elements)."""


@dataclass(eq=False, slots=True)
class _Machine:
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def popped(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise ValueError("a pickle that takes more than it has")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def since_mark(self) -> list[Any]:
        return self.popped(len(self.stack) - self.marks.pop())


def read(content: bytes) -> Any:
    """The value of a pickle, with `Called` and `Stored` in place of objects.

    Raises:
        ValueError, IndexError, KeyError, TypeError: no pickle, or one with operations that torch does not write.
    """
    machine = _Machine()
    for count, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if count > OPERATIONS_LIMIT:
            raise ValueError("a pickle of more operations than any model needs")
        if operation.name == "STOP":
            return machine.popped(1)[0]
        if operation.name in _PLAIN:
            machine.stack.append(argument)
        elif operation.name in _OPERATIONS:
            _OPERATIONS[operation.name](machine, argument)
        elif operation.name not in ("PROTO", "FRAME"):
            raise ValueError(f"a pickle with {operation.name}, which torch does not write")
    raise ValueError("a pickle without an end")


_PLAIN = frozenset(
    {
        "BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINBYTES",
        "SHORT_BINBYTES", "BINSTRING", "SHORT_BINSTRING",
    }
)  # fmt: skip
"""Operations that put a number or a text on the stack."""


def _call(machine: _Machine, _argument: Any) -> None:
    made, arguments = machine.popped(2)
    machine.stack.append(Called(made.name if isinstance(made, Called) else "", arguments))


def _set_items(machine: _Machine, items: list[Any]) -> None:
    table = machine.stack[-1]
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, (str, int)):
            raise TypeError("a key that is neither text nor a number")  # hashing nested tuples may take for ever
        if isinstance(table, dict):
            table[key] = value


def _append(machine: _Machine, items: list[Any]) -> None:
    if isinstance(machine.stack[-1], list):
        machine.stack[-1].extend(items)


def _build(machine: _Machine, _argument: Any) -> None:
    (state,) = machine.popped(1)
    if isinstance(machine.stack[-1], Called):
        machine.stack[-1].state = state


def _remember(machine: _Machine, argument: Any) -> None:
    machine.memo[len(machine.memo) if argument is None else argument] = machine.stack[-1]


def _pusher(make: Callable[[], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _argument: machine.stack.append(make())


def _tuple(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _argument: machine.stack.append(tuple(machine.popped(count)))


_OPERATIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "NONE": _pusher(lambda: None),
    "NEWTRUE": _pusher(lambda: True),
    "NEWFALSE": _pusher(lambda: False),
    "EMPTY_DICT": _pusher(dict),
    "EMPTY_LIST": _pusher(list),
    "EMPTY_TUPLE": _pusher(tuple),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "GLOBAL": lambda machine, argument: machine.stack.append(Called(argument.replace(" ", "."))),
    "STACK_GLOBAL": lambda machine, _: machine.stack.append(Called(".".join(map(str, machine.popped(2))))),
    "REDUCE": _call,
    "NEWOBJ": _call,
    "BUILD": _build,
    "SETITEM": lambda machine, _: _set_items(machine, machine.popped(2)),
    "SETITEMS": lambda machine, _: _set_items(machine, machine.since_mark()),
    "APPEND": lambda machine, _: _append(machine, machine.popped(1)),
    "APPENDS": lambda machine, _: _append(machine, machine.since_mark()),
    "BINPERSID": lambda machine, _: machine.stack.append(Stored(machine.popped(1)[0])),
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "MEMOIZE": _remember,
    "BINGET": lambda machine, argument: machine.stack.append(machine.memo[argument]),
    "LONG_BINGET": lambda machine, argument: machine.stack.append(machine.memo[argument]),
    "POP": lambda machine, _: machine.stack.pop(),
}
