"""Failures of calls and sessions on their way into the record: without a key, no secret goes there with their text.

Called by calls that fail, and by the run of a session that ends with an error.
"""

from __future__ import annotations

from collections.abc import Mapping

from trio.lowlevel import enable_ki_protection

from railtracks._nodes.node import Node
from railtracks._records.errors import described
from railtracks._records.secrets import Scrubber, known_secrets
from railtracks.durable._replay.context import RecordedContext
from railtracks.durable._values.failures import dump_failure, members_of
from railtracks.durable._values.shapes import secret_arguments
from railtracks.durable._values.values import Values
from railtracks.exceptions import RemoteError


class Failures:
    """Turns the failures of one session into bytes, and knows the secrets that their texts may quote."""

    def __init__(self, values: Values, context: RecordedContext) -> None:
        self._values = values
        self._context = context
        # The secrets that calls which are not recorded were given. A recorded call refuses them without a key.
        self._secrets: set[str] = set()

    # As in `Values.dump`: the members of the error are asked for theirs.
    @enable_ki_protection
    def note_secrets(self, node: Node[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        """Remember the secret arguments of a call that is not recorded."""
        if not self._values.sealer.has_key:
            self._secrets |= known_secrets(secret_arguments(node.fn, args, kwargs))

    @enable_ki_protection
    def dump(self, error: BaseException) -> tuple[bytes, list[str]]:
        """Return a failure as bytes, and the names of its parts that a later run will not see."""
        data, lost = dump_failure(error, self._values)
        if self._values.sealer.has_key:
            # The whole failure is encrypted.
            return data, lost
        named: list[tuple[str | None, object]] = [(None, each) for each in members_of(error)]
        scrubber = Scrubber(known_secrets([*self._context.held.items(), *named]) | self._secrets)
        text = data.decode()
        if scrubber.exact(text) == text:
            return data, lost
        description = described(error)
        remote = RemoteError(description.type, scrubber.text(description.message), scrubber.text(description.traceback))
        return dump_failure(remote, self._values)[0], [*lost, "its text, which quotes a secret (give the store a key)"]
