"""Failures of calls and sessions on their way into the record: without a key, no secret goes there with their text.

Called by calls that fail, and by the run of a session that ends with an error.
"""

from __future__ import annotations

from collections.abc import Mapping

from railtracks._checks import exact, is_text
from railtracks._nodes.node import Node
from railtracks._records.descriptions import described
from railtracks._records.error_parts import answer, args_of, attributes_of
from railtracks._records.secrets import Scrubber, is_secret_name, known_secrets
from railtracks.durable._replay.context import RecordedContext
from railtracks.durable._values.failures import all_in, dump_failure
from railtracks.durable._values.values import Values, secret_arguments
from railtracks.exceptions import RemoteError


class Failures:
    """Turns the failures of one session into bytes, and knows the secrets that their texts may quote."""

    def __init__(self, values: Values, context: RecordedContext) -> None:
        self._values = values
        self._context = context
        # The secrets that calls which are not recorded were given. A recorded call refuses them without a key.
        self._secrets: set[str] = set()

    def note_secrets(self, node: Node[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        """Remember the secret arguments of a call that is not recorded."""
        if not self._values.sealer.has_key:
            self._secrets |= known_secrets(secret_arguments(node.fn, args, kwargs))

    def dump(self, error: BaseException) -> tuple[bytes, list[str]]:
        """Return a failure as bytes, and the names of its parts that a later run will not see."""
        data, lost = dump_failure(error, self._values)
        if self._values.sealer.has_key:
            # The whole failure is encrypted.
            return data, lost
        # If an argument of the failure does not even tell what it is made of, its text may quote any secret.
        scrubber = answer(lambda: Scrubber(self._secrets_beside(error)), lambda _: None)
        text = data.decode()
        if scrubber is not None and scrubber.exact(text) == text:
            return data, lost
        told = _told(error, scrubber)
        return dump_failure(told, self._values)[0], [*lost, "its text, which quotes a secret (give the store a key)"]

    def _secrets_beside(self, error: BaseException) -> set[str]:
        """Return the secrets that the text of a failure may quote: of the session, and of the failure's own values."""
        named: list[tuple[str | None, object]] = list(self._context.held.items())
        for each in all_in(error):
            named.append((None, args_of(each)))
            attributes = attributes_of(each).items()
            named += [
                (exact(name), value) for name, value in attributes if is_text(name) and is_secret_name(exact(name))
            ]
        return known_secrets(named) | self._secrets


def _told(error: BaseException, scrubber: Scrubber | None) -> RemoteError:
    """Return the text of a failure without secrets, of an unknown secret without everything but the class."""
    description = described(error)
    texts = (description.message, description.traceback)
    message, traceback = ("[redacted]" if scrubber is None else scrubber.text(text) for text in texts)
    return RemoteError(description.type, message, traceback)
