"""Failures of calls and sessions on their way into the record: without a key, no secret goes there with their text.

Called by calls that fail, and by the run of a session that ends with an error.
"""

from __future__ import annotations

from collections.abc import Iterator

from trio.lowlevel import enable_ki_protection

from railtracks._checks import exact, is_text
from railtracks._records.error_parts import args_of, attributes_of
from railtracks._records.secret_names import is_secret_name
from railtracks._records.secrets import Named
from railtracks.durable._replay.context import RecordedContext
from railtracks.durable._values.failures import all_in, dump_failure, dump_text
from railtracks.durable._values.values import Values


class Failures:
    """Turns the failures of one session into bytes, and knows the secrets that their texts may quote."""

    def __init__(self, values: Values, context: RecordedContext) -> None:
        self._values = values
        self._context = context

    @enable_ki_protection
    def dump(self, error: BaseException) -> tuple[bytes, list[str]]:
        """Return a failure as bytes, and the names of its parts that a later run will not see."""
        data, lost = dump_failure(error, self._values)
        if self._values.sealer.has_key:
            # The whole failure is encrypted.
            return data, lost
        secrets = self._context.secrets
        secrets.see_all([*self._context.held.items(), *_named_values_of(error)])
        text = data.decode()
        if secrets.scrubber.exact(text) == text:
            return data, lost
        # A context is not what the node said: better the failure without it than its text alone.
        bare, lost_of_bare = dump_failure(error, self._values, has_contexts=False)
        text = bare.decode()
        if secrets.scrubber.exact(text) == text:
            return bare, lost_of_bare
        quoted = "its text, which quotes a secret (give the store a key)"
        return dump_text(error, secrets.text, self._values), [*lost, quoted]

    def safe_text(self, text: str) -> str:
        """Return a text as it may be stored: without a key the secrets that the session has seen are removed."""
        if self._values.sealer.has_key:
            return text
        secrets = self._context.secrets
        secrets.see_all(self._context.held.items())
        return secrets.text(text)


def _named_values_of(error: BaseException) -> Iterator[Named]:
    """Return what a failure and the others in it were made with, and their attributes with secret names."""
    for each in all_in(error):
        yield None, args_of(each)
        for name, value in attributes_of(each).items():
            if is_text(name) and is_secret_name(exact(name)):
                yield exact(name), value
