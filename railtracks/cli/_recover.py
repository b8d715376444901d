"""The command `recover`: the sessions of some flows go on that no process runs any more.

`add` is called by the command line as it makes its parser.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

import railtracks as rt
from railtracks._foreign_text import plain
from railtracks._records.data import CallError
from railtracks._sessions.event_loops import run_from_sync
from railtracks._sessions.sigterm import is_stopping
from railtracks.cli._arguments import Commands, add_settings, count
from railtracks.cli._inputs import SETTINGS_HELP, context_from
from railtracks.cli._output import (
    FAILED,
    TERMINATED,
    WRONG_USE,
    CommandError,
    complain,
    put,
    put_json,
    stdout_for_result,
)
from railtracks.cli._runs import broadcasts_shown
from railtracks.cli._stores import KEY_NOTE, add_command, note, some_stores, stores_of
from railtracks.cli._targets import TARGET_HELP, load_flow

if TYPE_CHECKING:
    from railtracks.durable import DurableStore, Recovery, RecoveryProgress

# Stores, each with the flows whose sessions it may have.
_Plan: TypeAlias = "list[tuple[DurableStore, list[rt.Flow[..., object]]]]"

_EXAMPLES: Final = f"""\
examples:
  railtracks recover flows.py:orders flows.py:approvals
  railtracks recover shop.flows --limit 4 --store postgresql://me@db.example/orders

Resumes the sessions of these flows that no process runs: those that were interrupted, and those that wait and whose
signal has come, or whose time is over. It waits for them. Without --store the store of each flow is looked at, else
that of $RAILTRACKS_STORE or of home. Exit code 1 if a session failed; those that were left alone are told of.
{KEY_NOTE}"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    command = add_command(
        commands,
        "recover",
        "go on with all sessions that no process runs",
        "Resume the sessions of some flows that no process runs any more.",
        _EXAMPLES,
    )
    command.add_argument("targets", metavar="TARGET", nargs="+", help=TARGET_HELP)
    command.add_argument(
        "--limit", metavar="N", type=count, default=10, help="sessions that run at once (default: %(default)s)"
    )
    add_settings(command, f"{SETTINGS_HELP}; for all sessions that are resumed")
    command.set_defaults(command=_recover)


def _recover(arguments: argparse.Namespace) -> int:
    context = context_from(arguments.settings)
    flows = [load_flow(target).update_context(context) for target in arguments.targets]
    plan = _plan(arguments, flows)
    found: list[tuple[DurableStore, Recovery]] = []
    scope = trio.CancelScope()

    def stop() -> bool:
        scope.cancel()
        return True

    with broadcasts_shown(), stdout_for_result():
        try:
            run_from_sync(partial(_recover_all, scope, plan, arguments.limit, found), stop, in_thread=False)
        except (ValueError, ImportError) as error:
            raise CommandError(WRONG_USE, plain(str(error))) from error
    if is_stopping():
        complain("railtracks: stopped by SIGTERM; what was not finished can be recovered again")
        return TERMINATED
    has_failed = any(recovery.failed for _, recovery in found)
    written = put_json(_document(found)) if arguments.json else put(_text(found))
    return FAILED if has_failed else written


def _plan(arguments: argparse.Namespace, flows: Sequence[rt.Flow[..., object]]) -> _Plan:
    """Return the stores to look in, each with the flows whose sessions it may have."""
    found: dict[str, tuple[DurableStore, list[rt.Flow[..., object]]]] = {}
    for flow in flows:
        is_own = flow.store is not None and arguments.home is None and not arguments.store
        stores = stores_of(arguments, flow.store)[1] if is_own else some_stores(arguments)
        for place, store in stores:
            found.setdefault(place, (store, []))[1].append(flow)
    return list(found.values())


async def _recover_all(
    scope: trio.CancelScope, plan: _Plan, limit: int, found: list[tuple[DurableStore, Recovery]]
) -> None:
    with scope:
        for store, flows in plan:
            found.append((store, await rt.recover(store, flows, limit, progress=_show)))


def _show(progress: RecoveryProgress) -> None:
    note(f"found {progress.found}, resumed {progress.resumed}, running {progress.running}, left {progress.left}")


def _error_of(store: DurableStore, session_id: str, error: BaseException) -> tuple[str, str]:
    """Return the name of an error's class and its text, as the record has them: without secrets."""
    with suppress(rt.StoreError, rt.SessionUnavailableError):
        recorded = store.load(session_id).error
        if recorded is not None:
            return recorded.type.rpartition(":")[2], recorded.message
    return type(error).__name__, str(error) if isinstance(error, rt.RailtracksError) else ""


def _document(found: Sequence[tuple[DurableStore, Recovery]]) -> dict[str, object]:
    failed = {
        session_id: dict(zip(("type", "message"), _error_of(store, session_id, error), strict=True))
        for store, recovery in found
        for session_id, error in recovery.failed.items()
    }
    return {
        "resumed": sorted(each for _, recovery in found for each in recovery.resumed),
        "failed": failed,
        "skipped": {session_id: why for _, recovery in found for session_id, why in recovery.skipped.items()},
        "sleeping": sum(recovery.sleeping for _, recovery in found),
    }


def _text(found: Sequence[tuple[DurableStore, Recovery]]) -> str:
    lines: list[str] = []
    for store, recovery in found:
        lines += [f"resumed      {plain(each)}" for each in sorted(recovery.resumed)]
        for session_id, error in recovery.failed.items():
            kind, message = _error_of(store, session_id, error)
            lines.append(f"failed       {plain(session_id)}  {plain(CallError(kind, message).line)}")
        lines += [f"left alone   {plain(each)}  {plain(why)}" for each, why in recovery.skipped.items()]
    sleeping = sum(recovery.sleeping for _, recovery in found)
    lines += [f"{sleeping} more wait for a signal"] * bool(sleeping)
    return "\n".join([*(lines or ["there is nothing to recover"]), ""])
