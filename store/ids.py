"""Content-hash ids: equal content has an equal id, on every machine and for ever."""

import hashlib
import json
from typing import Any

ID_HEX_DIGITS = 24


def canonical_json(value: Any) -> str:
    """`value` as JSON with sorted keys and no spaces; refuses NaN and infinities, which JSON cannot carry."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_hash(value: Any) -> str:
    """First 24 hex digits (96 bits) of the SHA-256 of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:ID_HEX_DIGITS]
