"""The stack of edits by itself."""

import pytest

from napari_distill2label.gui.project.history import DEPTH, History


@pytest.fixture
def stack():
    return History()


def did(stack, log, name):
    stack.push(name, lambda: log.append(f"undo {name}"), lambda: log.append(f"redo {name}"))


def test_back_and_forth(stack):
    log = []
    for name in "abc":
        did(stack, log, name)
    assert [stack.undo(), stack.undo(), stack.redo(), stack.undo(), stack.undo()] == ["c", "b", "b", "b", "a"]
    assert log == ["undo c", "undo b", "redo b", "undo b", "undo a"]
    assert stack.undo() is None
    assert (stack.undo_text, stack.redo_text) == (None, "a")


def test_a_new_edit_ends_what_could_be_redone(stack):
    did(stack, [], "a")
    stack.undo()
    did(stack, [], "b")
    assert stack.redo_text is None
    assert stack.redo() is None


def test_edits_made_by_undo_are_not_edits(stack):
    stack.push("a", lambda: did(stack, [], "inner"), lambda: did(stack, [], "inner"))
    stack.undo()
    assert (stack.undo_text, stack.redo_text) == (None, "a")
    stack.redo()
    assert (stack.undo_text, stack.redo_text) == ("a", None)


def test_it_forgets_the_oldest(stack):
    log = []
    for number in range(DEPTH + 5):
        did(stack, log, str(number))
    while stack.undo():
        pass
    assert len(log) == DEPTH
    assert log[-1] == "undo 5"


def test_an_undo_that_fails_leaves_the_stack_usable(stack):
    stack.push("a", lambda: 1 / 0, lambda: None)
    with pytest.raises(ZeroDivisionError):
        stack.undo()
    did(stack, log := [], "b")
    assert stack.undo() == "b"
    assert log == ["undo b"]


def test_it_tells_of_changes(stack):
    heard = []
    stack.changed.connect(lambda: heard.append((stack.undo_text, stack.redo_text)))
    did(stack, [], "a")
    stack.undo()
    stack.redo()
    stack.clear()
    assert heard == [("a", None), (None, "a"), ("a", None), (None, None)]
