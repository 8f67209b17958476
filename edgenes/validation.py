"""Checks that the fields of a configuration share."""

import dataclasses
import difflib
import typing
from typing import Any

from edgenes.errors import ConfigError
from edgenes.parsing import shown


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise ConfigError, naming the nearest known word, unless `value` is one of `known`."""
    if value not in known:
        near = difflib.get_close_matches(value[:100], known, 1) if isinstance(value, str) else []
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{name} must be one of {', '.join(known)}, got {shown(value)}.{hint}")


def check_types(config: Any) -> None:
    """Raise ConfigError unless each field has its annotated type; a whole number does for a float field."""
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        types = typing.get_args(each.type) or (each.type,)
        if type(value) not in types and not (float in types and type(value) is int):
            wanted = " or ".join("None" if kind is type(None) else kind.__name__ for kind in types)
            raise ConfigError(f"{each.name} must be of type {wanted}, got {shown(value)}.")


def check_at_least(config: Any, minimum: float, *names: str) -> None:
    """Raise ConfigError unless each named field is a finite number of at least `minimum`."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value < float("inf"):
            raise ConfigError(f"{name} must be a number of at least {minimum}, got {shown(value)}.")


def check_at_most(config: Any, maximum: float, *names: str) -> None:
    """Raise ConfigError if a named field is above `maximum`."""
    for name in names:
        if getattr(config, name) > maximum:
            raise ConfigError(f"{name} must be at most {maximum}, got {shown(getattr(config, name))}.")


def check_positive(config: Any, *names: str) -> None:
    """Raise ConfigError unless each named field is a finite number above 0."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ConfigError(f"{name} must be a number above 0, got {shown(value)}.")
