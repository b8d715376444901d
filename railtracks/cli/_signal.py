"""The command `signal`: what a session waits for, and a person's answer.

`add` is called by the command line as it makes its parser. No code of users is imported: what a wait takes stands in
the store.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

import railtracks as rt
from railtracks._archive import SessionSummary
from railtracks._foreign_text import plain
from railtracks._records.secret_names import is_secret_name
from railtracks.cli._arguments import Commands, add_session
from railtracks.cli._inputs import secret_text, text_of
from railtracks.cli._output import WRONG_USE, CommandError, put, put_json
from railtracks.cli._stores import KEY_NOTE, add_command, stored
from railtracks.cli._waits import lines_of, tell

if TYPE_CHECKING:
    from railtracks.durable import DurableStore, StoredWait

_OVER: Final = frozenset({rt.Status.COMPLETED, rt.Status.FAILED, rt.Status.TIMED_OUT, rt.Status.CANCELLED})
_KEY_HINT: Final = ": give it in $RAILTRACKS_STORE_KEY"
_ANYWAY_HINT: Final = " (--anyway sends it all the same)"

_EXAMPLES: Final = f"""\
examples:
  railtracks signal order-17                      what the session waits for, and what was sent to it
  railtracks signal order-17 approved true        answer the wait for "approved"
  railtracks signal order-17 note "all is well"   a text needs no quotes of JSON if the wait is for a text
  railtracks signal order-17 --input @order.json  the answer from a file, if the session waits for one thing only
  railtracks signal order-17 pin env:PIN          a secret, which no argument may hold

The value is checked against what the wait takes. Sent twice, an answer to one wait is one signal. A session that was
put aside goes on when `railtracks recover` or `railtracks resume` finds the signal.
{KEY_NOTE}"""
# What JSON with parts, or a text in JSON, begins with.
_BEGINNINGS: Final = frozenset('[{"')


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    command = add_command(
        commands,
        "signal",
        "answer a session that waits",
        "Send a signal to a session that waits for one; without a value, tell what it waits for.",
        _EXAMPLES,
    )
    add_session(command, "id")
    command.add_argument("name", metavar="NAME", nargs="?", help="the name of the signal")
    command.add_argument("value", metavar="VALUE", nargs="?", help="a JSON value, or a text where the wait is for one")
    command.add_argument("--input", metavar="JSON|@FILE|@-", help="the value as JSON, in place of VALUE")
    command.add_argument("--key", metavar="KEY", help="the signal key (default: that of the wait)")
    command.add_argument(
        "--anyway", action="store_true", help="send it though nothing waits for it, or it does not fit"
    )
    command.set_defaults(command=_signal)


def _signal(arguments: argparse.Namespace) -> int:
    if arguments.value is not None and arguments.input is not None:
        raise CommandError(WRONG_USE, "give the value either as VALUE or by --input, not both")
    wanted: str | None = arguments.name
    is_look = wanted is None and arguments.input is None
    summary, store = stored(arguments, arguments.id, is_look=is_look)
    waits = store.waits(summary.session_id)
    if is_look:
        return tell(summary, store, waits, as_json=arguments.json)
    wait = _wait_for(wanted, summary, waits)
    name = wanted or "" if wait is None else wait.name
    if wait is None and not arguments.anyway:
        if summary.status in _OVER:
            raise rt.SessionUnavailableError(summary.session_id, f"is {summary.status}: a signal would reach nobody")
        raise CommandError(WRONG_USE, _lack(name, summary, waits))
    is_chosen = arguments.anyway or arguments.key is not None
    if wait is not None and not is_chosen and _is_answered_otherwise(store, wait):
        raise CommandError(
            WRONG_USE, f"signal {plain(name)!r} is sent already, and not heard yet; --anyway sends one more for later"
        )
    value = _value(arguments, name, wait)
    session_id = summary.session_id if wait is None else wait.session_id
    key = arguments.key if arguments.key is not None or wait is None else wait.key
    try:
        trio.run(partial(rt.send_signal, session_id, name, value, store=store, key=key))
    except (rt.DurableValueError, ValueError) as error:
        is_other = wait is not None and wait.is_answered and arguments.key is None
        text = f"signal {name!r} is sent already with another value, and not heard yet" if is_other else str(error)
        raise CommandError(WRONG_USE, plain(text)) from error
    if arguments.json:
        return put_json({"session_id": session_id, "name": name, "key": key, "status": summary.status})
    # One inside goes on with the session that was named.
    it = "it" if session_id == summary.session_id else f"session {plain(summary.session_id)}"
    goes_on = f"; recover or resume {it}" if summary.status != rt.Status.RUNNING else ""
    return put(f"signal {plain(name)!r} is sent to session {plain(session_id)}, which is {summary.status}{goes_on}\n")


def _wait_for(name: str | None, summary: SessionSummary, waits: Sequence[StoredWait]) -> StoredWait | None:
    """Return the wait that is to be answered, `None` if none is open: of several the oldest without an answer.

    Raises:
        CommandError: If it is not clear which one is meant.
    """
    named = [each for each in waits if name is None or each.name == name]
    own = [each for each in named if each.session_id == summary.session_id]
    candidates = own or named
    if len({(each.session_id, each.name) for each in candidates}) > 1:
        raise CommandError(
            WRONG_USE,
            f"session {plain(summary.session_id)} waits for several signals: name one\n{lines_of(candidates)}",
        )
    if name is None and not candidates:
        raise CommandError(WRONG_USE, f"session {plain(summary.session_id)} waits for no signal: name one")
    unanswered = (each for each in candidates if not each.is_answered)
    return next(unanswered, candidates[-1] if candidates else None)


def _is_answered_otherwise(store: DurableStore, wait: StoredWait) -> bool:
    """Return whether a wait will hear a signal that was not sent as its answer: one more would be for a later wait."""
    return wait.is_answered and all(each.key != wait.key for each in store.signals(wait.session_id))


def _lack(name: str, summary: SessionSummary, waits: Sequence[StoredWait]) -> str:
    others = f". It waits for\n{lines_of(waits)}" if waits else ""
    return (
        f"session {plain(summary.session_id)} does not wait for {plain(name)!r} now; --anyway sends it for"
        f" later{others}"
    )


def _value(arguments: argparse.Namespace, name: str, wait: StoredWait | None) -> object:
    """Return the value to send, as `rt.send_signal` takes it.

    Raises:
        CommandError: If there is none, or it does not fit.
    """
    is_secret = is_secret_name(name) if wait is None else wait.is_secret
    value = _given(arguments, name, wait, is_secret=is_secret)
    if wait is None:
        return value
    try:
        return wait.checked(value)
    except ValueError as error:
        if arguments.anyway and wait.problem is None:
            return value
        hint = _KEY_HINT if wait.problem else _ANYWAY_HINT
        if arguments.value is None and arguments.input is None:
            hint = f": write VALUE behind {plain(name)}{hint}"
        raise CommandError(WRONG_USE, f"{plain(str(error))}{hint}") from None


def _given(arguments: argparse.Namespace, name: str, wait: StoredWait | None, *, is_secret: bool) -> object:
    if arguments.input is not None:
        if is_secret and not arguments.input.startswith("@"):
            raise CommandError(WRONG_USE, f"{plain(name)!r} is a secret: give it by --input @FILE")
        return _json("--input", text_of(arguments.input) if arguments.input.startswith("@") else arguments.input)
    if arguments.value is None:
        return None
    text = secret_text(arguments.value, name) if is_secret else arguments.value
    if wait is not None and wait.takes_text:
        return text
    if wait is not None and not is_secret:
        _refuse_word(text, wait)
    return _json("VALUE", text)


def _refuse_word(text: str, wait: StoredWait) -> None:
    """Refuse a word that is no JSON, such as `maybe`, with what the wait wants in its place.

    Raises:
        CommandError: If it is such a word, and a text would not do.
    """
    if text.lstrip()[:1] in _BEGINNINGS:
        return
    try:
        json.loads(text)
    except ValueError:
        try:
            wait.checked(text)
        except ValueError as error:
            raise CommandError(WRONG_USE, plain(str(error))) from None


def _json(what: str, text: str) -> object:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        # It says where, and quotes nothing: the text may be a secret.
        raise CommandError(WRONG_USE, f"{what} is no JSON, in which a text stands in double quotes: {error}") from None
    return found
