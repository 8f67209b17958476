"""Pixels of other types: either the same picture, or a formula that gives it."""

import re

import numpy as np
import pytest

from edgenes.data.pixels import as_bytes
from edgenes.errors import DataError

RAMP = np.linspace(0, 255, 256).round().reshape(4, 8, 8)
UNIT = RAMP / 255


def halves(array):
    return {"x_train": array, "x_test": array[:2]}


TAKEN = {
    "uint8": RAMP.astype(np.uint8),
    "int64": RAMP.astype(np.int64),
    "big-endian": RAMP.astype(">i4"),
    "uint16 of 8 bits": RAMP.astype(np.uint16),
    "uint16": (RAMP * 257).astype(np.uint16),
    "int32 of 16 bits": (RAMP * 257).astype(np.int32),
    "float 0..1": UNIT.astype(np.float32),
    "float16 0..1": UNIT.astype(np.float16),
    "float 0..255": RAMP,
    "float 0..255 with fractions": RAMP * 0.999,
    "float that overshoots": UNIT * 1.0005 - 0.0001,
}


@pytest.mark.parametrize("case", TAKEN)
def test_pixels_of_one_meaning_are_taken_in_both_halves(case):
    arrays, notes = as_bytes(halves(TAKEN[case]))
    for array, expected in zip(arrays, (RAMP, RAMP[:2]), strict=True):
        assert array.dtype == np.uint8
        assert np.abs(array.astype(int) - expected).max() <= (case.startswith("float16") or "overshoots" in case)
    assert len(notes) == (case != "uint8")


def test_booleans_and_few_whole_levels_lose_nothing():
    assert as_bytes({"x": RAMP > 100})[0][0].tolist() == ((RAMP > 100) * 255).tolist()
    levels = np.arange(17.0).reshape(1, 1, 17)  # as scikit-learn's digits have
    assert as_bytes({"x": levels})[0][0].tolist() == levels.tolist()


REFUSED = {
    "int8": (RAMP - 128).astype(np.int8),
    "int16 around zero": (RAMP * 257 - 32768).astype(np.int16),
    "10 bits": (RAMP * 4).astype(np.uint16),
    "12 bits": (RAMP * 16).astype(np.uint16),
    "12 bits, signed": (RAMP * 16).astype(np.int16),
    "15 bits, signed": (RAMP * 128).astype(np.int16),
    "14 bits": (RAMP * 64).astype(np.uint16),
    "Hounsfield units": (RAMP * 16 - 1000).astype(np.int16),
    "32 bits": (RAMP * 2**20).astype(np.uint32),
    "float -1..1": (UNIT * 2 - 1).astype(np.float32),
    "float -0.5..0.5": UNIT - 0.5,
    "standardised": (UNIT - 0.4) / 0.2,
    "float 0..65535": (RAMP * 257).astype(np.float32),
    "float of few levels": UNIT * 4.5,
    "float of many levels": UNIT * 9e9,
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_formula_of_a_refusal_gives_the_picture(case):
    with pytest.raises(DataError) as caught:
        as_bytes(halves(REFUSED[case]))
    formulas = re.search(r"replace each, x, by (.*)\.$", str(caught.value))[1].split(" bits")[0].removesuffix(" for 10")
    formula = re.sub(r" for \d+$", "", formulas)
    made = eval(formula, {}, {"x": REFUSED[case]})
    assert made.dtype == np.uint8 and np.abs(made.astype(int) - RAMP).max() <= 1


def test_advice_on_integers_names_each_number_of_bits_that_holds_them():
    with pytest.raises(DataError, match=r"// 16\).*12 bits.*// 64\).*14 bits.*// 257\).*16 bits"):
        as_bytes({"x": np.array([4000], np.uint16)})


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_with_their_place(wrong):
    array = UNIT.copy()
    array[1, 2, 3] = wrong
    with pytest.raises(DataError, match=r"x_test holds 1 values.*\(1, 2, 3\)"):
        as_bytes({"x_train": UNIT, "x_test": array})


@pytest.mark.parametrize(
    ("train", "test"), [(RAMP, UNIT), ((RAMP * 257).astype(np.uint16), RAMP.astype(np.uint16))], ids=["float", "uint16"]
)
def test_halves_of_different_ranges_are_refused(train, test):
    with pytest.raises(DataError, match="x_test reaches"):
        as_bytes({"x_train": train, "x_test": test})


def test_halves_of_different_types_are_each_taken():
    arrays, notes = as_bytes({"x_train": RAMP.astype(np.uint8), "x_test": UNIT})
    assert np.array_equal(*arrays) and len(notes) == 1


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([None]), np.zeros(1, "M8[s]")])
def test_what_holds_no_numbers_is_refused(array):
    with pytest.raises(DataError, match="x should be uint8"):
        as_bytes({"x": array})
