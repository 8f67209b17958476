"""Labels as people have them."""

import numpy as np
import pytest

from edgenes.data.labels import as_labels
from edgenes.errors import DataError

PLAIN = np.arange(12) % 3


def read(train, test=None, names=None):
    test = train[:6] if test is None else test
    made = as_labels(train, test, (12, 6), names)
    assert made[0].dtype == made[1].dtype == np.int64
    return made


@pytest.mark.parametrize("kind", [np.uint8, np.int32, ">i8", np.uint64])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_numbers_from_zero_stay_without_a_word(kind, shape):
    train, test, names, notes = read(PLAIN.astype(kind).reshape(shape))
    assert (train.tolist(), test.tolist()) == (PLAIN.tolist(), PLAIN[:6].tolist())
    assert (names, notes) == (("0", "1", "2"), [])


TAKEN = {
    "one-hot float": (np.eye(3, dtype=np.float32)[PLAIN], ("0", "1", "2")),
    "one-hot integer": (np.eye(3, dtype=np.uint8)[PLAIN], ("0", "1", "2")),
    "one-hot boolean": (np.eye(3, dtype=bool)[PLAIN], ("0", "1", "2")),
    "text": (np.array(["cat", "dog", "eel"])[PLAIN], ("cat", "dog", "eel")),
    "bytes": (np.array([b"cat", b"dog", b"eel"])[PLAIN], ("cat", "dog", "eel")),
    "column of text": (np.array(["cat", "dog", "eel"])[PLAIN][:, None], ("cat", "dog", "eel")),
    "float": (PLAIN.astype(np.float32), ("0", "1", "2")),
    "from one": (PLAIN + 1, ("1", "2", "3")),
    "with gaps": (np.array([0, 5, 1000000000000])[PLAIN], ("0", "5", "1000000000000")),
    "float from one": (PLAIN + 1.0, ("1", "2", "3")),
}


@pytest.mark.parametrize("case", TAKEN)
def test_other_labels_of_one_meaning_are_numbered_and_noted_once(case):
    labels, expected = TAKEN[case]
    train, test, names, notes = read(labels)
    assert (train.tolist(), test.tolist(), names) == (PLAIN.tolist(), PLAIN[:6].tolist(), expected)
    assert len(notes) == (2 if case == "float from one" else 1)


def test_booleans_are_zero_and_one():
    assert read(PLAIN > 0)[0].tolist() == (PLAIN > 0).astype(int).tolist()


def test_names_decide_the_order():
    assert read(np.array(["b", "c", "a"])[PLAIN], names=("b", "c", "a", "d"))[0].tolist() == PLAIN.tolist()
    train, _, names, notes = read(PLAIN + 1, names=("x", "y", "z"))
    assert (train.tolist(), names, len(notes)) == (PLAIN.tolist(), ("x", "y", "z"), 1)


def test_labels_of_both_halves_are_numbered_together():
    train, test, names, _ = read(np.array([2, 4, 7])[PLAIN], np.array([4, 4, 4, 4, 9, 9]))
    assert (train.tolist(), test.tolist(), names) == (PLAIN.tolist(), [1, 1, 1, 1, 3, 3], ("2", "4", "7", "9"))


WRONG = {
    "several ones": (np.ones((12, 3), int), "row 0 holds 3 ones"),
    "no one": (np.zeros((12, 3), int), "row 0 holds 0 ones"),
    "probabilities": (np.full((12, 4), 0.25), r"argmax\(1\)"),
    "a fraction": (PLAIN + 0.5, "0.5 at 0"),
    "no number": (np.where(PLAIN == 2, np.nan, PLAIN), "nan at 2"),
    "infinite": (np.where(PLAIN == 2, np.inf, PLAIN), "inf at 2"),
    "three axes": (np.zeros((12, 1, 1), int), r"\(12, 1, 1\)"),
    "objects": (np.array([None] * 12), "object"),
    "too few": (PLAIN[:11], "11 labels for 12"),
    "below zero": (PLAIN - 1, "label -1"),
    "beyond int64": (np.full(12, 2**63, np.uint64), "9223372036854775808"),
}


@pytest.mark.parametrize("case", WRONG)
def test_labels_of_no_meaning_are_refused(case):
    labels, message = WRONG[case]
    with pytest.raises(DataError, match=f"y_train.*{message}"):
        read(labels, PLAIN[:6])


def test_texts_that_are_no_class_and_halves_of_two_kinds_are_refused():
    texts = np.array(["a", "b", "c"])[PLAIN]
    with pytest.raises(DataError, match="'c' is not among class_names"):
        read(texts, names=("a", "b"))
    with pytest.raises(DataError, match="y_train is <U1 and y_test int64"):
        read(texts, PLAIN[:6])
