"""Pixels of any type as uint8: taken where their values have one reading, else refused with the formula that helps."""

from collections.abc import Mapping

import numpy as np

from edgenes.errors import DataError

_SLACK = 1e-3
"""How far floats may lie outside of their range, in parts of it: resampling overshoots."""
_LEVELS = 32
"""Floats with fractions whose largest is below this would lose most of their levels when they are rounded."""
_SIMILAR = 16
"""How many times the largest value of one array may be that of another, which then have one reading."""


def as_bytes(arrays: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], list[str]]:
    """The arrays as uint8, 0..255, those of one kind converted alike, and a line for each kind that says how.

    Taken are booleans, integers in 0..255, integers with 16 bits, and floats in 0..1 or 0..255. Raises DataError for
    all others, with the formula that brings their values to 0..255.
    """
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        groups.setdefault(array.dtype.kind if array.dtype.kind in "bf" else array.dtype.name, {})[name] = array
    converted: dict[str, np.ndarray] = {}
    notes = []
    for group in groups.values():
        made, how = _converted(group)
        converted |= made
        if how:
            kinds = ", ".join(sorted({array.dtype.name for array in group.values()}))
            notes.append(f"{' and '.join(group)}: pixels of {kinds} {how}.")
    return [converted[name] for name in arrays], notes


def _converted(arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of one kind as uint8, and how; no word for those that are."""
    kind = next(iter(arrays.values())).dtype
    if kind == np.uint8:
        return arrays, ""
    if kind == np.bool_:
        return {
            name: array.astype(np.uint8) * np.uint8(255) for name, array in arrays.items()
        }, "are taken as 0 and 255"
    if kind.kind not in "iuf":
        raise DataError(f"{' and '.join(arrays)} should be uint8, 0..255, got {kind}: save numbers.")
    ends = {name: (array.min().item(), array.max().item()) for name, array in arrays.items() if array.size}
    if not ends:
        return {name: array.astype(np.uint8) for name, array in arrays.items()}, ""
    for name, end in ends.items():
        if not np.isfinite(end).all():
            wrong = np.argwhere(~np.isfinite(arrays[name]))
            raise DataError(
                f"{name} holds {len(wrong)} values that are not finite, the first at {tuple(wrong[0].tolist())}: "
                "replace them, for example by numpy.nan_to_num, or leave those images out."
            )
    low, high = min(low for low, _ in ends.values()), max(high for _, high in ends.values())
    for name, end in ends.items():
        if 0 < end[1] * _SIMILAR < high and (kind.kind == "f" or high > 255):
            raise DataError(
                f"{name} reaches {end[1]:g}, and others {high:g}, of {kind}: bring all to one range, 0..255."
            )
    return (_from_floats if kind.kind == "f" else _from_integers)(arrays, low, high)


def _from_integers(arrays: dict[str, np.ndarray], low: int, high: int) -> tuple[dict[str, np.ndarray], str]:
    if low >= 0 and high <= 255:
        return {name: array.astype(np.uint8) for name, array in arrays.items()}, f"{low}..{high} are taken as 0..255"
    if low >= 0 and high.bit_length() == 16:
        return {name: (array // 257).astype(np.uint8) for name, array in arrays.items()}, "are divided by 257 (// 257)"
    if low >= 0 and high < 2**16:
        signed = next(iter(arrays.values())).dtype == np.int16
        bits = ((10, 4), (12, 16), (14, 64), (15, 128) if signed else (16, 257))
        cure = ", ".join(f"(x // {by}).astype('uint8') for {each} bits" for each, by in bits if high < 2**each)
    elif low >= -(2**7) and high < 2**7:
        cure = "(x.astype('int16') + 128).astype('uint8')"
    elif low >= -(2**15) and high < 2**15 and high - low >= 2**15:
        cure = "((x.astype('int32') + 32768) // 257).astype('uint8')"
    else:
        cure = _stretch(low, high)
    raise _refusal(arrays, low, high, cure)


def _from_floats(arrays: dict[str, np.ndarray], low: float, high: float) -> tuple[dict[str, np.ndarray], str]:
    def rounded(scale: float) -> dict[str, np.ndarray]:
        return {name: np.rint((array * scale).clip(0, 255)).astype(np.uint8) for name, array in arrays.items()}

    if low >= -_SLACK and high <= 1 + _SLACK:
        return rounded(255), "in 0..1 are multiplied by 255 and rounded"
    if low >= -_SLACK * 255 and high <= (1 + _SLACK) * 255:
        whole = all((array == np.rint(array)).all() for array in arrays.values())
        if whole or high >= _LEVELS:
            return rounded(1), f"{low:g}..{high:g} are taken as 0..255{'' if whole else ' and rounded'}"
        cure = f"(x * (255 / {high:g})).round().astype('uint8')"
    elif -1 - _SLACK <= low < 0 and high <= 1 + _SLACK:
        half = low >= -0.5 and high <= 0.5
        cure = f"({'(x + 0.5) * 255' if half else '(x + 1) * 127.5'}).round().clip(0, 255).astype('uint8')"
    elif low >= 0 and 2**15 <= high < 2**16:
        cure = "(x / 257).round().astype('uint8')"
    elif low >= -255 * 0.2 and high <= 255 * 1.2 and high >= _LEVELS:
        cure = "x.clip(0, 255).round().astype('uint8')"
    else:
        cure = _stretch(low, high)
    raise _refusal(arrays, low, high, cure)


def _stretch(low: float, high: float) -> str:
    return f"((x.astype('float64') - {low:g}) * (255 / {high - low:g})).round().clip(0, 255).astype('uint8')"


def _refusal(arrays: dict[str, np.ndarray], low: float, high: float, cure: str) -> DataError:
    names, kind = " and ".join(arrays), next(iter(arrays.values())).dtype
    return DataError(f"{names} should be uint8, 0..255, got {kind}, {low:g}..{high:g}: replace each, x, by {cure}.")
