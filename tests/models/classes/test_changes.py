"""What changes make of a list of names, and the sentences of those that make no sense."""

import pytest

from models import ModelError
from models.classes import ClassChanges, ClassPlan
from models.classes.changes import plan_classes

NAMES = ("disc", "rectangle", "triangle", "star")


def plan(**changes) -> ClassPlan:
    return plan_classes(NAMES, ClassChanges(**changes))


def refusal(**changes) -> str:
    with pytest.raises(ModelError) as caught:
        plan(**changes)
    return caught.value.message


def test_new_classes_come_last() -> None:
    made = plan(add=["ring", "cross"])
    assert made.names == (*NAMES, "ring", "cross")
    assert made.sources == (0, 1, 2, 3, None, None)
    assert made.added == ("ring", "cross")
    assert made.removed == ()


def test_removed_classes_close_the_gap() -> None:
    made = plan(remove=["rectangle"])
    assert made.names == ("disc", "triangle", "star")
    assert made.sources == (0, 2, 3)
    assert made.removed == ("rectangle",)


def test_kept_classes_stay_in_their_order() -> None:
    assert plan(keep=["star", "disc"]).names == ("disc", "star")


def test_names_can_change_places() -> None:
    made = plan(rename={"disc": "star", "star": "disc"})
    assert made.names == ("star", "rectangle", "triangle", "disc")
    assert made.sources == (0, 1, 2, 3)


def test_all_at_once() -> None:
    made = plan(
        add=["ring"],
        remove=["star"],
        rename={"disc": "circle"},
        reorder=["ring", "triangle", "circle", "rectangle"],
    )
    assert made.sources == (None, 2, 0, 1)
    assert made.to_dict() == {
        "classes": [
            {"id": 0, "name": "ring", "old_id": None, "old_name": None},
            {"id": 1, "name": "triangle", "old_id": 2, "old_name": "triangle"},
            {"id": 2, "name": "circle", "old_id": 0, "old_name": "disc"},
            {"id": 3, "name": "rectangle", "old_id": 1, "old_name": "rectangle"},
        ],
        "removed": ["star"],
    }


def test_a_name_is_free_once_its_class_is_gone() -> None:
    assert plan(remove=["star"], rename={"disc": "star"}).sources == (0, 1, 2)
    assert plan(remove=["star"], add=["star"]).sources == (0, 1, 2, None)


def test_all_old_classes_may_go_for_new_ones() -> None:
    assert plan(remove=NAMES, add=["ring"]).sources == (None,)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Nothing is to change"),
        ({"remove": ["Sstar"]}, "remove: the model has no class 'Sstar'. Did you mean star?"),
        ({"keep": ["discs"]}, "keep: the model has no class 'discs'. Did you mean disc?"),
        ({"rename": {"STAR": "x"}}, "rename: the model has no class 'STAR'. Did you mean star?"),
        ({"remove": ["qqqq"]}, "There are disc, rectangle, triangle, star."),
        ({"remove": NAMES}, "No class would be left"),
        ({"keep": []}, "No class would be left"),
        ({"keep": ["disc"], "remove": ["star"]}, "keep and remove exclude each other"),
        ({"remove": ["disc", "disc"]}, "remove has the name 'disc' twice"),
        ({"add": ["ring", "ring"]}, "the name 'ring' comes twice"),
        ({"add": ["star"]}, "the name 'star' comes twice"),
        ({"rename": {"disc": "star"}}, "the name 'star' comes twice"),
        ({"remove": ["disc"], "rename": {"disc": "x"}}, "both renamed and removed"),
        ({"reorder": ["disc", "star"]}, "rectangle, triangle are missing"),
        ({"reorder": NAMES[:3]}, "star is missing"),
        ({"reorder": [*NAMES, "ring"]}, "reorder: the model has no class 'ring'"),
        ({"reorder": [*NAMES, "disc"]}, "reorder has the name 'disc' twice"),
        ({"add": [""]}, "'' is no name"),
        ({"add": [" ring"]}, "' ring' is no name"),
        ({"add": ["two\nlines"]}, "one line of text"),
        ({"add": ["ring\u2028"]}, "one line of text"),
        ({"add": [3]}, "3 is no name"),
        ({"add": "ring"}, "add takes a list of names, such as ['ring'], not one text"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict, sentence: str) -> None:
    assert sentence in refusal(**changes)


def test_long_lists_are_cut_short() -> None:
    with pytest.raises(ModelError, match=r"a9 and 2 more are missing"):
        plan_classes([f"a{i}" for i in range(12)], ClassChanges(reorder=[]))


def test_old_names_are_distinct_too() -> None:
    with pytest.raises(ModelError, match="the name 'a' comes twice"):
        plan_classes(["a", "a"], ClassChanges(add=["b"]))
