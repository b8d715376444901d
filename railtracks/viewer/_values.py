"""The values of one call for the page that shows it: each as JSON text, and a long one as its beginning.

Called by the endpoint of `_app` for a call. A value is sent as text, because a browser would round its large numbers.
"""

from __future__ import annotations

import json
from typing import Final

from railtracks._records.data import CallRecord
from railtracks.viewer._columns import Json, error_of

# Characters of the text of one value.
_LONGEST: Final = 200_000
_encode = json.JSONEncoder(default=repr, separators=(",", ":")).encode


def call_values(call: CallRecord) -> Json:
    """Return what a call was given, and what came of it."""
    return {
        "id": call.id,
        "args": [_shown(value) for value in call.args],
        "kwargs": {name: _shown(value) for name, value in call.kwargs.items()},
        "result": _shown(call.result),
        "error": error_of(call.error),
    }


def _shown(value: object) -> Json:
    """Return a value as JSON text, or the beginning of its text if that is too long."""
    # The text itself, which is nicer to read than the JSON of it.
    text = value if isinstance(value, str) and len(value) > _LONGEST else _encode(value)
    return {"json": text} if len(text) <= _LONGEST else {"beginning": text[:_LONGEST]}
