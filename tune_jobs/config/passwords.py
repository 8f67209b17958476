"""Passwords in the URLs of storages: found, hidden, and refused on a command line."""

import re
from collections.abc import Iterable

from edgenes.errors import ConfigError

VARIABLE = "EDGENES_STORAGE"
"""Environment variable that names the storage where no option does; its URL may hold a password."""
IN_FILE = "file:"
"""Before the path of a file whose first line is the URL."""
_USER = re.compile(r"(?<=://)([^:/]*):(.*)@")
_QUERY = re.compile(r"(?i)([?&][^=&]*(?:password|passwd|passphrase|pwd|secret|token|odbc_connect)[^=&]*=)([^&]*)")


def redact(url: str) -> str:
    """`url` with every password in it replaced by ***."""
    return _QUERY.sub(r"\1***", _USER.sub(r"\1:***@", url))


def has_password(url: str) -> bool:
    """Whether `url` holds a password."""
    return bool(secrets(url))


def refuse_passwords(arguments: Iterable[str]) -> None:
    """Raise ConfigError if a command line shows a password, as every user of the machine can read it."""
    if any(map(has_password, arguments)):
        raise ConfigError(
            "a password on the command line can be read by every user of this machine, in its list of processes. "
            f"Put the URL of the storage into the environment variable {VARIABLE}. Or put it into the first line of a "
            f"file that only you can read (chmod 600 FILE), and give --storage {IN_FILE}FILE. If others use this "
            "machine, change that password."
        )


def secrets(url: str) -> list[str]:
    """Every password in `url`."""
    return [secret for _, secret in _USER.findall(url) + _QUERY.findall(url) if secret]
