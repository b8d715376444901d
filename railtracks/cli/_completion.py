"""The command `completion`: a script with which a shell completes commands, options and sessions.

`add` is called by the command line as it makes its parser. The script is static: a TAB starts no Python. Names of
sessions come from the names of files in home, which anybody may have chosen who can write there.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

from railtracks._extras import import_of_extra
from railtracks.cli._arguments import Commands
from railtracks.cli._output import WRONG_USE, CommandError, put

_EXAMPLES: Final = """\
examples:
  eval "$(railtracks completion bash)"                        in this shell; or as a file:
  railtracks completion bash > ~/.local/share/bash-completion/completions/railtracks
  railtracks completion zsh > ~/.zsh/completions/_railtracks  in a folder of $fpath
  railtracks completion tcsh > ~/.railtracks.tcsh             and `source` it

Sessions are completed by the files in home whose names consist of letters, digits, dots, _ and -. Needs shtab:
pip install 'railtracks-trio[cli]'.
"""
_SHELLS: Final = ("bash", "zsh", "tcsh")
# The same in both shells. A name counts only if nothing in it means anything to a shell. It is looked at before
# anything is done with it, and it never is a part of a text that is expanded: `compgen -W` would run `$(...)` in it.
_NAMES: Final = r"""
_railtracks_home() {
  if [[ -n "${RAILTRACKS_HOME-}" ]]; then
    printf '%s\n' "${RAILTRACKS_HOME/#\~\//$HOME/}"
    return
  fi
  local folder="$PWD"
  while [[ ! -d "$folder/.railtracks" && "$folder" == */* ]]; do
    folder="${folder%/*}"
  done
  printf '%s\n' "$folder/.railtracks"
}

_railtracks_names() {
  local LC_ALL=C home name file
  home="$(_railtracks_home)"
  printf 'last\n'
  for file in "$home"/*.json "$home"/events/*; do
    name="${file##*/}"
    name="${name%.json}"
    # The state of a flow has the name of the flow before the identifier.
    [[ "$name" =~ -[0-9a-f]{32}$ ]] && name="${name##*-}"
    [[ "$name" =~ ^[A-Za-z0-9._][A-Za-z0-9._-]*$ && -e "$file" ]] && printf '%s\n' "$name"
  done
}
"""
_BASH: Final = r"""
_railtracks_sessions() {
  local name
  while IFS= read -r name; do
    [[ "$name" == "$1"* ]] && printf '%s\n' "$name"
  done < <(_railtracks_names) | sort -u
}
"""
_ZSH: Final = r"""
_railtracks_sessions() {
  setopt local_options null_glob
  local -aU names
  names=("${(@f)$(_railtracks_names)}")
  compadd -a names
}
"""
_PREAMBLES: Final = {"bash": f"{_NAMES}{_BASH}", "zsh": f"{_NAMES}{_ZSH}", "tcsh": ""}


def add(commands: Commands, parser: argparse.ArgumentParser) -> None:
    """Add the command to the parser, whose commands and options the script completes."""
    command = commands.add_parser(
        "completion",
        help="print a script that completes commands in a shell",
        description="Print a script with which a shell completes the commands, options and sessions of railtracks.",
        epilog=_EXAMPLES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("shell", choices=_SHELLS, help="the shell")
    command.set_defaults(command=partial(_completion, parser))


def _completion(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    try:
        import_of_extra("shtab", "completion needs", "cli")
    except ImportError as error:
        raise CommandError(WRONG_USE, str(error)) from error
    import shtab  # noqa: PLC0415 - of an extra

    return put(f"{shtab.complete(parser, arguments.shell, preamble=_PREAMBLES[arguments.shell])}\n")
