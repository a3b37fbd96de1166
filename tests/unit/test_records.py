"""Records are the standard library's dataclasses in all but what importing them costs."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass as standard
from dataclasses import field, fields, replace
from pathlib import Path
from typing import Any

import pytest

from imagewright.records import dataclass as record

BUILDER = Path(__file__).parents[2] / "builder" / "imagewright"


@record(frozen=True, slots=True)
class Point:
    """At the module's level, since pickle finds classes by name."""

    x: int
    y: list[int] = field(default_factory=list)


@record(frozen=True, slots=True)
class Named(Point):
    name: str = ""


def _frozen(dataclass: Any) -> Any:
    @dataclass(frozen=True, slots=True)
    class Thing:
        a: int
        b: str = "b"
        hidden: str = field(default="secret", repr=False)
        said: int | None = field(default=None, compare=False)
        made: tuple[int, ...] = field(default_factory=tuple)

        @property
        def twice(self) -> int:
            return self.a * 2

    return Thing


def _derived(dataclass: Any) -> Any:
    @dataclass(frozen=True, slots=True)
    class Base:
        a: int
        b: int = 2

    @dataclass(frozen=True, slots=True)
    class Thing(Base):
        """Documented; overrides a default, and shows itself in its own way."""

        b: int = 3
        c: int = 4

        def __str__(self) -> str:
            return f"{self.a}-{self.b}-{self.c}"

    return Thing


def _computed(dataclass: Any) -> Any:
    @dataclass(slots=True)
    class Thing:
        a: int
        seen: list[int] = field(default_factory=list)
        doubled: int = field(init=False)
        fixed: int = field(default=7, init=False)
        own: list[int] = field(default_factory=list, init=False)

        def __post_init__(self) -> None:
            self.doubled = self.a * 2

    return Thing


def _named_only(dataclass: Any) -> Any:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Thing:
        a: int
        b: int = 2

    return Thing


def _mixed(dataclass: Any) -> Any:
    @dataclass(frozen=True, slots=True)
    class Thing:
        a: int
        b: int = field(kw_only=True)
        c: int = 3

    return Thing


def _single(dataclass: Any) -> Any:
    @dataclass(frozen=True, slots=True)
    class Thing:
        a: Any = None

    return Thing


def _empty(dataclass: Any) -> Any:
    @dataclass(frozen=True, slots=True)
    class Thing:
        pass

    return Thing


def _own_methods(dataclass: Any) -> Any:
    @dataclass(frozen=True, slots=True)
    class Thing:
        a: int = 1

        def __repr__(self) -> str:
            return "mine"

        def __hash__(self) -> int:
            return 5

    return Thing


def _own_equality(dataclass: Any) -> Any:
    @dataclass(frozen=True, slots=True)
    class Thing:  # noqa: PLW1641 -- the decorator adds it
        a: int = 1

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Thing)

    return Thing


def _names(dataclass: Any) -> Any:
    """As the text that is compiled could have others."""

    @dataclass(frozen=True, slots=True)
    class Thing:
        set_b: int
        b: int = 2
        make_c: int = 3
        default_b: int = 4
        c: list[int] = field(default_factory=list)
        MADE: list[int] = field(default_factory=list)

    return Thing


KINDS = [_frozen, _derived, _computed, _named_only, _mixed, _single, _empty, _own_methods, _own_equality, _names]
CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((1,), {}),
    ((2,), {}),
    ((1, "x"), {}),
    ((1,), {"b": 5}),
    ((1, 2, 3), {}),
    ((1, 2), {"b": 5}),
    ((), {"a": 1}),
    ((), {"a": 1, "b": 9}),
    ((1, 2, 3, 4, 5, 6, 7), {}),
    ((1,), {"unknown": 1}),
    (([],), {}),
]


def _outcome(do: Callable[[], Any]) -> Any:
    try:
        return do()
    except (TypeError, AttributeError) as error:
        return type(error), re.sub(r"\S*<locals>\.", "", str(error))


def _described(made: Any) -> Any:
    """All that can be seen of an object."""
    return (
        re.sub(r"\S*<locals>\.", "", repr(made)),
        re.sub(r"\S*<locals>\.", "", str(made)),
        {each.name: copy.copy(getattr(made, each.name)) for each in fields(made)},
        _outcome(lambda: hash(made) == hash(copy.copy(made))),
        [_outcome(lambda name=each.name: setattr(made, name, 3)) for each in fields(made)],
        _outcome(lambda: setattr(made, "unknown", 3)) is None,  # the standard library's error is of another kind
        made.__match_args__,
        copy.deepcopy(made) == made,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("words", "named"), CALLS)
def test_record_is_made_and_behaves_as_a_dataclass(
    kind: Callable[[Any], Any], words: tuple[Any, ...], named: dict[str, Any]
) -> None:
    ours, theirs = kind(record), kind(standard)
    made = _outcome(lambda: _described(ours(*words, **named)))
    assert made == _outcome(lambda: _described(theirs(*words, **named)))
    assert made == _outcome(lambda: _described(ours(*words, **named)))  # the second time, __init__ is compiled


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_those_of_a_dataclass(kind: Callable[[Any], Any]) -> None:
    def described(cls: Any) -> Any:
        return [(each.name, each.type, each.default, each.init, each.repr, each.compare) for each in fields(cls)]

    assert described(kind(record)) == described(kind(standard))
    assert kind(record).__slots__ == kind(standard).__slots__


def test_equal_with_equal_fields_of_the_same_class() -> None:
    assert Point(1, [2]) == Point(1, [2])
    assert Point(1, [2]) != Point(1, [3])
    assert Point(1) != Named(1)
    assert Named(1, name="a") != Named(1, name="b")
    assert Point(1) != (1, [])
    thing = _frozen(record)
    assert thing(1, said=1) == thing(1, said=2)
    assert hash(thing(1, said=1)) == hash(thing(1, said=2))
    assert {thing(1), thing(1), thing(2)} == {thing(2), thing(1)}
    with pytest.raises(TypeError, match="unhashable"):
        hash(_computed(record)(1))


def test_frozen_fields_keep_their_values() -> None:
    point = Point(1)
    for refused in (lambda: setattr(point, "x", 2), lambda: delattr(point, "x"), lambda: setattr(point, "z", 2)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            refused()
    assert point == Point(1)


def test_replaced_pickled_and_copied_into_equals() -> None:
    named = Named(1, [2], "c")
    assert replace(named, x=5) == Named(5, [2], "c")
    assert pickle.loads(pickle.dumps(named)) == named
    assert copy.copy(named) == named
    assert dataclasses.asdict(named) == {"x": 1, "y": [2], "name": "c"}
    thing = _computed(record)(4)
    thing.a = 6
    assert (thing.a, thing.doubled, thing.fixed, thing.own) == (6, 8, 7, [])


def test_factory_is_called_for_each_object() -> None:
    assert Point(1).y is not Point(1).y


def test_recursive_record_is_shown() -> None:
    inner: list[Any] = []
    single = _single(record)(inner)
    inner.append(single)
    assert repr(single).endswith("Thing(a=[...])")


def test_nothing_is_compiled_before_the_first_object() -> None:
    thing = _frozen(record)
    before = thing.__init__
    assert before.__code__.co_filename.endswith("records.py")
    thing(1)
    assert thing.__init__ is not before
    assert thing.__init__.__code__.co_varnames[:2] == ("self", "a")


def test_all_dataclasses_of_the_engine_are_records() -> None:
    imports = re.compile(r"^from dataclasses import .*\bdataclass\b|^import dataclasses", re.MULTILINE)
    paths = [path for path in BUILDER.rglob("*.py") if imports.search(path.read_text())]
    assert paths == [BUILDER / "records.py"], "their methods are compiled at import: use imagewright.records"
