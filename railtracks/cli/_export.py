"""The command `export`: a session in a form that other programs show.

`add` is called by the command line as it makes its parser.
"""

from __future__ import annotations

import argparse
from typing import Final

from railtracks._archive import of_none
from railtracks.cli._arguments import Commands, add_session
from railtracks.cli._output import FAILED, CommandError, put_document
from railtracks.cli._places import add_places, archive_of, found
from railtracks.exports import FORMATS, export_listed, write_listed

_EXAMPLES: Final = """\
examples:
  railtracks export last --format html -o run.html            one page, without scripts, to send to somebody
  railtracks export last --format chrome-trace -o trace.json  for Perfetto, speedscope and chrome://tracing
  railtracks export last --format mermaid                     a graph for a Markdown file
  railtracks export 3f9a --format otlp-json                   spans for a collector of OpenTelemetry

An export has the names, statuses, times and errors of calls, never their arguments and results.
"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "export",
        help="export a session for other programs",
        description="Write a session in a form that other programs show.",
        epilog=_EXAMPLES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_session(command)
    command.add_argument("--format", choices=FORMATS, required=True, help="the form")
    command.add_argument(
        "-o", "--output", metavar="FILE|-", help="the file, which only you may read; stdout for -, and by default"
    )
    add_places(command)
    command.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    archive = archive_of(arguments)
    (summary,) = found(arguments, archive, arguments.session)
    info = archive.load(summary, of_none)
    if arguments.output in {None, "-"}:
        text = export_listed(info, summary.status, arguments.format)
        return put_document(text if text.endswith("\n") else f"{text}\n")
    try:
        write_listed(info, summary.status, arguments.format, arguments.output)
    except OSError as error:
        raise CommandError(FAILED, f"cannot write {arguments.output!a}: {error.strerror}") from error
    return 0
