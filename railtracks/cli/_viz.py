"""The command `viz`: sessions in a browser, from a server on this machine that ends with the command.

`add` is called by the command line as it makes its parser.
"""

from __future__ import annotations

import argparse
import platform
import signal
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import trio

from railtracks._extras import import_of_extra
from railtracks.cli._arguments import Commands, port
from railtracks.cli._output import FAILED, WRONG_USE, CommandError, complain, put
from railtracks.cli._places import add_places, archive_of, check_stores

_EXAMPLES: Final = """\
examples:
  railtracks viz                        in the browser, until Ctrl-C
  railtracks viz --no-open --port 8000  prints the address, and how to reach it over SSH
  railtracks viz --allow-signals        its page may answer signals that sessions wait for

It listens on 127.0.0.1 only. The address has a token in it: whoever knows it can see the sessions. Without a display,
or over SSH, no browser is tried. Needs: pip install 'railtracks-trio[viewer]'.
"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "viz",
        help="show sessions in a browser",
        description="Serve the viewer of sessions on this machine, and open it in the browser.",
        epilog=_EXAMPLES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--port", metavar="N", type=port, default=0, help="the port (default: any that is free)")
    command.add_argument("--no-open", action="store_true", help="print the address, and open no browser")
    command.add_argument(
        "--allow-host", metavar="NAME", action="append", default=[], help="another name by which browsers may call it"
    )
    command.add_argument("--allow-signals", action="store_true", help="let its page answer signals")
    add_places(command)
    command.set_defaults(command=_viz)


def _viz(arguments: argparse.Namespace) -> int:
    try:
        import_of_extra("railtracks.viewer._server", "the viewer needs", "viewer")
    except ImportError as error:
        raise CommandError(WRONG_USE, str(error)) from error
    archive = archive_of(arguments)
    home = archive.home
    if home is None:
        raise CommandError(WRONG_USE, "there is no home to look at: give --home DIR")
    check_stores(arguments, archive)
    problems: list[str] = []
    code = 0
    try:
        code = trio.run(_serve, home, arguments)
    except* OSError as errors:
        problems += map(str, errors.exceptions)
    if problems:
        raise CommandError(FAILED, f"cannot serve at port {arguments.port}: {problems[0]}")
    return code


async def _serve(home: Path, arguments: argparse.Namespace) -> int:
    """Serve the viewer until a signal comes, and return the exit code for that."""
    from railtracks import viewer  # noqa: PLC0415 - what is served is imported by now

    serving = partial(
        viewer.serve,
        home,
        port=arguments.port,
        hosts=arguments.allow_host,
        stores=arguments.store,
        allow_signals=arguments.allow_signals,
    )
    code = 0
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals, ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            address = str(await nursery.start(serving))
            code = await trio.to_thread.run_sync(_tell, address, stack, arguments.no_open)
            if not code:
                code = 128 + await anext(aiter(signals))
            nursery.cancel_scope.cancel()
    return code


def _tell(address: str, stack: ExitStack, no_open: bool) -> int:  # noqa: FBT001 - a thread takes it by place
    """Write the address, and open the browser on it. Blocks, as the start of a browser does."""
    from railtracks.viewer._browser import opened_browser, ssh_line  # noqa: PLC0415 - as above

    if code := put(f"{address}\n"):
        return code
    if no_open or not stack.enter_context(opened_browser(address)):
        complain(f"from another machine:  {ssh_line(address, platform.node())}")
    complain("Ctrl-C ends it")
    return 0
