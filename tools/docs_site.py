"""What the documentation site has beside its pages: the table of options, links to it, and signatures of attrs classes.

Called by MkDocs, as a hook (`on_page_markdown`, `on_post_build`), and by mkdocstrings, as an extension of Griffe.
"""

from __future__ import annotations

import importlib
import re
import sys
import typing
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

try:
    from griffe import Extension
except ImportError:  # The tests read the table, and need no site.
    Extension = object

from railtracks._option import options_of
from railtracks._options import ConfigOptions, DecoratorOptions, FlowOptions, SessionOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "<!-- options -->"
TAKERS: Mapping[str, type] = {
    "Session": SessionOptions,
    "@session": DecoratorOptions,
    "Flow": FlowOptions,
    "set_config": ConfigOptions,
}


def option_rows() -> list[tuple[str, str, str, str]]:
    """Return a row for each option: its name, its type, what takes it, and what it does."""
    kinds = (FlowOptions, SessionOptions, ConfigOptions)
    names = dict.fromkeys(name for kind in kinds for name in options_of(kind))
    rows: list[tuple[str, str, str, str]] = []
    for name in names:
        takers = [taker for taker, kind in TAKERS.items() if name in options_of(kind)]
        if name == "context":
            # The first parameter of `Session`.
            takers.insert(0, "Session")
        kind = next(kind for kind in TAKERS.values() if name in options_of(kind))
        taken_by = "all" if len(takers) == len(TAKERS) else ", ".join(f"`{taker}`" for taker in takers)
        rows.append((name, _type_of(kind, name), taken_by, options_of(kind)[name].text))
    return rows


def _type_of(kind: type, name: str) -> str:
    annotation = typing.get_args(typing.get_type_hints(kind, include_extras=True)[name])[0]
    text = str(annotation) if typing.get_args(annotation) else annotation.__name__
    text = re.sub(r"\b(?:typing|collections\.abc|railtracks\._options)\.", "", text)
    text = re.sub(r"Optional\[(.*)\]$", r"\1", text)
    # The first names of modules say nothing to a reader, and None stands for "not given" everywhere.
    return text.replace("SessionStore", "DurableStore").replace(" | None", "")


def option_table() -> str:
    """Return all options as a table in Markdown."""
    lines = ["| option | type | taken by | what it does |", "| --- | --- | --- | --- |"]
    for name, kind, taken_by, text in option_rows():
        shown = " or ".join(f"`{each}`" for each in kind.split(" | "))
        lines.append(f"| `{name}` | {shown} | {taken_by} | {text} |")
    # The style sheet lays the cells of a row below each other on a phone.
    table = "\n".join(lines)
    return f'<div class="options" markdown="1">\n\n{table}\n\n</div>'


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the table of options where a page has the mark for it."""
    return markdown.replace(MARK, option_table()) if MARK in markdown else markdown


class _Loaded(HTMLParser):
    """Finds what a page loads: not the links that a reader may follow."""

    _BY_TAG: Mapping[str, str] = {
        "audio": "src",
        "embed": "src",
        "iframe": "src",
        "img": "src",
        "link": "href",
        "script": "src",
        "source": "src",
        "video": "src",
    }

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the address that an element loads."""
        address = dict(attrs).get(self._BY_TAG.get(tag, ""))
        if address is not None:
            self.found.append(address)


def foreign(site: Path) -> Iterator[str]:
    """Return what the pages and style sheets of a site load from other hosts."""
    for file in sorted(site.rglob("*.html")):
        loaded = _Loaded()
        loaded.feed(file.read_text("utf-8"))
        yield from (f"{file}: {each}" for each in loaded.found if re.match(r"(?:\w+:)?//", each))
    for file in sorted(site.rglob("*.css")):
        yield from (f"{file}: {each}" for each in re.findall(r"url\(['\"]?(?:\w+:)?//[^)]*\)", file.read_text("utf-8")))


def on_post_build(config: Mapping[str, Any], **_: object) -> None:
    """Fail the build if a page loads anything from another host.

    Raises:
        RuntimeError: If one does. The text names all pages, and what they load.
    """
    found = list(foreign(Path(config["site_dir"])))
    if found:
        raise RuntimeError("these pages load from other hosts:\n" + "\n".join(found))


class LinksToOptions(Extension):
    """Puts a link to the table in place of `{options}`, which is filled on import with the texts of all options."""

    def on_instance(self, *, obj: Any, **_: object) -> None:
        """Replace the placeholder in the docstring of an object that Griffe has read."""
        if obj.docstring is not None and obj.name in _LINKS:
            obj.docstring.value = obj.docstring.value.replace("{options}", _LINKS[obj.name])


_LINK = "**options: The options by name; [one table](options.md) has all of them."
_LINKS: Mapping[str, str] = {
    "Flow": _LINK,
    "Session": f"context: {options_of(DecoratorOptions)['context'].text}\n    {_LINK}",
    "set_config": _LINK,
}


# The package imports these modules of attrs classes when they are first used.
for _module in ("railtracks._nodes.retry", "railtracks._records.data"):
    importlib.import_module(_module)


class SignaturesOfAttrs(Extension):
    """Gives attrs classes the `__init__` that attrs makes on import, which Griffe cannot read in the source."""

    def on_class_members(self, *, cls: Any, **_: object) -> None:
        """Add the method to a class of a module that is imported, with its parameters and their defaults."""
        made = getattr(sys.modules.get(cls.module.path), cls.name, None)
        if not (isinstance(made, type) and attrs.has(made)) or "__init__" in cls.members:
            return
        # By name, because the checkers of types run without Griffe.
        griffe: Any = importlib.import_module("griffe")
        kinds = griffe.ParameterKind
        parameters = griffe.Parameters(griffe.Parameter("self", kind=kinds.positional_or_keyword))
        for each in attrs.fields(made):
            if each.init and each.name in cls.members:
                kind = kinds.keyword_only if each.kw_only else kinds.positional_or_keyword
                annotation = cls.members[each.name].annotation
                parameters.add(
                    griffe.Parameter(each.alias, kind=kind, annotation=annotation, default=_shown(each.default))
                )
        cls.set_member("__init__", griffe.Function("__init__", parameters=parameters, returns="None", parent=cls))


def _shown(default: object) -> str | None:
    if default is attrs.NOTHING:
        return None
    return default.__name__ if isinstance(default, type) else repr(default)
