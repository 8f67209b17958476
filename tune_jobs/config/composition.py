"""One flat list of options over a configuration that is composed of pieces."""

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edgenes.errors import ConfigError
from edgenes.parsing import shown
from edgenes.validation import check_choice
from tune_jobs.config.budget import BudgetOptions


def pieces(kind: type) -> dict[str, type]:
    """The pieces that a configuration is composed of, by field."""
    types = typing.get_type_hints(kind)
    return {
        each.name: types[each.name] for each in dataclasses.fields(kind) if dataclasses.is_dataclass(types[each.name])
    }


def composed(kind: type, options: Mapping[str, Any]) -> Any:
    """A configuration of this kind from flat options, each put into its piece.

    Raises ConfigError for an unknown option, naming the nearest known one, and for a value of the wrong type.
    """
    parts = pieces(kind)
    place = {each.name: name for name, part in parts.items() for each in dataclasses.fields(part)}
    own = [each.name for each in dataclasses.fields(kind) if each.name not in parts]
    values: dict[str, Any] = {name: {} for name in parts}
    for option, value in options.items():
        if option not in own and option not in place:
            near = difflib.get_close_matches(option, (*own, *place), 1)
            raise ConfigError(f"there is no option {shown(option)}." + (f" Did you mean {near[0]!r}?" if near else ""))
        (values[place[option]] if option in place else values)[option] = value
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "value_error":  # raised by a piece about its own fields
            raise first["ctx"]["error"] from error
        option = next((str(part) for part in reversed(first["loc"]) if part in place or part in own), "an option")
        raise ConfigError(f"{option}: {first['msg']}, got {shown(first['input'])}.") from error


def flat(config: Any) -> dict[str, Any]:
    """The inverse of `composed` as JSON has it: paths as text, tuples as lists."""
    found: dict[str, Any] = {}
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        found |= flat(value) if dataclasses.is_dataclass(value) else {each.name: _plain(value)}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def with_preset(options: Mapping[str, Any], presets: Mapping[str, Mapping], smoke: Mapping[str, Any]) -> dict[str, Any]:
    """`options` over those of the preset and of the smoke test that they name: what is given stays."""
    preset = options.get("preset", "laptop")
    check_choice("preset", preset, tuple(presets))
    found = {**presets[preset], **(smoke if options.get("smoke_test") else {}), **options}
    for name in ("survey_epochs", "short_epochs"):
        if name not in options and "final_epochs" in options:  # a full retraining shortens a short one
            found[name] = min(found.get(name, getattr(BudgetOptions, name)), options["final_epochs"])
    return found
