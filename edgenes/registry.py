"""What a user may add to by name: operations, data sources, selection methods, baselines."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Generic, TypeVar

from edgenes.errors import ConfigError
from edgenes.parsing import shown
from edgenes.validation import check_choice

Entry = TypeVar("Entry")
_REGISTRIES: "dict[str, Registry[Any]]" = {}


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Entries by name, the package's own first. `what` is the word for an entry in messages.

    `names` are own entries that the module `home` adds; it is imported when one of them is used. So names can be
    checked without torch.
    """

    def __init__(self, what: str, names: Sequence[str] = (), home: str = ""):
        self._what = what
        self._home = home
        self._entries: dict[str, Any] = dict.fromkeys(names)
        self._built_in = set(names)
        _REGISTRIES[what] = self

    def add(self, name: str, entry: Entry, built_in: bool = False) -> None:
        """Add an entry. A user's own one may be replaced, as a notebook's cell that runs twice does.

        Raises ConfigError for a name that is no text, or that is one of the package's own.
        """
        if not isinstance(name, str) or not name:
            raise ConfigError(f"the name of a {self._what} must be a text, got {shown(name)}.")
        if name in self._built_in and not built_in:
            raise ConfigError(f"{name!r} is a {self._what} of the package: choose another name.")
        self._entries[name] = entry
        if built_in:
            self._built_in.add(name)

    def find(self, name: str) -> Entry:
        """The entry; raises ConfigError, with the nearest known name, if there is none."""
        check_choice(self._what, name, tuple(self))
        return self[name]

    def __getitem__(self, name: str) -> Entry:
        if self._entries[name] is None:
            import_module(self._home)
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def own(self) -> dict[str, Entry]:
        """What the user has added."""
        return {name: entry for name, entry in self._entries.items() if name not in self._built_in}


def own_entries() -> dict[str, dict[str, Any]]:
    """What the user has added to all registries, for another process to `add_entries`."""
    return {what: registry.own() for what, registry in _REGISTRIES.items() if registry.own()}


def add_entries(entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Add what `own_entries` gave in the process that began."""
    for what, own in entries.items():
        for name, entry in own.items():
            _REGISTRIES[what].add(name, entry)
