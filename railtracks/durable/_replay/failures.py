"""Failures of calls and sessions on their way into the record: without a key, no secret goes there with their text.

Called by calls that fail, and by the run of a session that ends with an error.
"""

from __future__ import annotations

from railtracks._records.errors import described
from railtracks.durable._replay.context import RecordedContext
from railtracks.durable._values.failures import dump_failure, members_of
from railtracks.durable._values.values import Values
from railtracks.exceptions import RemoteError


class Failures:
    """Turns the failures of one session into bytes, and knows the secrets that their texts may quote."""

    def __init__(self, values: Values, context: RecordedContext) -> None:
        self._values = values
        self._context = context

    def dump(self, error: BaseException) -> tuple[bytes, list[str]]:
        """Return a failure as bytes, and the names of its parts that a later run will not see."""
        data, lost = dump_failure(error, self._values)
        if self._values.sealer.has_key:
            # The whole failure is encrypted.
            return data, lost
        secrets = self._context.secrets
        secrets.see_all([*self._context.held.items(), *((None, each) for each in members_of(error))])
        text = data.decode()
        if secrets.scrubber.exact(text) == text:
            return data, lost
        description = described(error)
        remote = RemoteError(description.type, secrets.text(description.message), secrets.text(description.traceback))
        return dump_failure(remote, self._values)[0], [*lost, "its text, which quotes a secret (give the store a key)"]
