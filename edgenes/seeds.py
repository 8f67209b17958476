"""Seeds of the parts of a study, each by name, so that none depends on what was drawn before it."""

import hashlib
import json


def stable_seed(*parts: int | str) -> int:
    """A seed of 31 bits that depends on `parts` alone, so that a restarted study draws the same numbers."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") & 0x7FFFFFFF
