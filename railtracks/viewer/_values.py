"""The values of one call for the page that shows it: each as JSON text, and a long one as its beginning.

Called by the endpoint of `_app` for a call. A value is sent as text, because a browser would round its large numbers.
All of it together is bounded, whatever is in a file.
"""

from __future__ import annotations

import json
from itertools import chain, islice
from typing import Final

from railtracks._records.data import CallRecord
from railtracks.viewer._columns import Json, error_of, short

# Characters of the text of one value, of the arguments together, of each argument beyond these, and how many are told.
_LONGEST: Final = 200_000
_ROOM: Final = 1_000_000
_BEYOND: Final = 200
_MOST: Final = 1_000
_encode = json.JSONEncoder(default=repr, separators=(",", ":")).encode


def call_values(call: CallRecord) -> Json:
    """Return what a call was given, and what came of it."""
    args, kwargs, room = list[Json](), dict[str, Json](), _ROOM
    # Those with names and those without have half of the number each, and what the others leave of it.
    named = min(len(call.kwargs), max(_MOST // 2, _MOST - len(call.args)))
    for name, value in chain(enumerate(call.args[: _MOST - named]), islice(call.kwargs.items(), named)):
        shown = _shown(value, _LONGEST if room > 0 else _BEYOND)
        room -= sum(len(str(text)) for text in shown.values())
        if isinstance(name, str):
            # Of names with the same long beginning the last one is told, and the others are counted.
            kwargs[short(name)] = shown
        else:
            args.append(shown)
    return {
        "id": call.id,
        "args": args,
        "kwargs": kwargs,
        "more": len(call.args) + len(call.kwargs) - len(args) - len(kwargs),
        "result": _shown(call.result, _LONGEST),
        "error": error_of(call.error),
    }


def _shown(value: object, longest: int) -> Json:
    """Return a value as JSON text, or the beginning of its text if that is too long."""
    # The text itself, which is nicer to read than the JSON of it.
    text = value if isinstance(value, str) and len(value) > longest else _encode(value)
    return {"json": text} if len(text) <= longest else {"beginning": text[:longest]}
