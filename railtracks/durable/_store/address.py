"""Where a store is: what users give as its address, as a URL of SQLAlchemy's.

`DurableStore` makes an `Address`, and `Access` asks it when the store is opened; nothing is opened here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from railtracks._checks import check_storable
from railtracks._records.files import current_folder, home, why_no_home
from railtracks._records.scrubbing import Scrubber, secrets_in
from railtracks.exceptions import StoreError

# What `psql` and drivers take as "host=... dbname=...": the first of its keywords.
_KEYWORDS: Final = re.compile(
    r"\s*(?:application_name|client_encoding|connect_timeout|dbname|host|hostaddr|options|passfile|password|port|service"
    r"|ssl\w+|target_session_attrs|user)\s*="
)
# A URL that lacks its slashes. Other names with a colon in them are names of files.
_SCHEME: Final = re.compile(r"(?P<scheme>file|jdbc|mysql|postgres|postgresql|sqlite)(?:\+\w+)?:", re.IGNORECASE)
_POSTGRESQL: Final = "postgresql://user:password@host:port/database"


class Address:
    """Where a store is. The default place is in home, which is looked for when the store is first opened.

    Args:
        given: A URL or a path. `None`: the default place.

    Raises:
        ValueError: As from `database_url`.
        StoreError: If it is a relative path, and there is no current folder.
    """

    def __init__(self, given: str | os.PathLike[str] | None) -> None:
        self._folder = current_folder()
        try:
            self._url = None if given is None else database_url(given, Path())
        except FileNotFoundError as error:
            raise StoreError(
                f"the store {given} has no place: its path is relative, and the current folder is gone. Name an"
                " absolute path"
            ) from error
        self._is_found = False

    def __str__(self) -> str:
        folder = home(self._folder)
        if self._url is None and folder is None:
            return "without a place"
        return shown(self._now())

    def find(self) -> URL:
        """Return the URL: of a file by its real path now, which it keeps from now on.

        Raises:
            StoreError: If the place depends on the current folder, and there was none when the store was made.
        """
        if not self._is_found:
            self._url, self._is_found = self._now(), True
        return self._now()

    def _now(self) -> URL:
        if self._url is not None:
            return self._url if self._is_found or self._url.get_backend_name() != "sqlite" else _local(self._url)
        folder = home(self._folder)
        if folder is None:
            raise StoreError(f"the default store has no place: {why_no_home()}, or give the store a path")
        return database_url(None, folder)


def database_url(url: str | os.PathLike[str] | None, home_folder: Path) -> URL:
    """Return the URL of what a user gave as the address of a store.

    Args:
        url: A URL or a path. `None`: a file under `home`.
        home_folder: The folder of saved states.

    Raises:
        ValueError: If it is the URL of neither SQLite nor PostgreSQL, or says more than a path for SQLite.
    """
    if url is None:
        return _local(URL.create("sqlite", database=str(home_folder / "durable" / "sessions.db")))
    if isinstance(url, os.PathLike) or "://" not in url:
        if isinstance(url, str):
            _refuse_other_forms(url)
        return _local(URL.create("sqlite", database=os.fspath(url)))
    scheme, colon, rest = url.strip().partition(":")
    if scheme.lower() == "file":
        raise ValueError(_no_file_uri())
    try:
        made = make_url(f"{_driver_of(scheme)}{colon}{rest}")
    except (ArgumentError, ValueError):
        # Their texts quote the URL, or the part that cannot be read, and that may be the password.
        raise ValueError(
            "a store is SQLite or PostgreSQL, and the URL given cannot be read: quote the special characters of its"
            " password by urllib.parse.quote"
        ) from None
    if made.get_backend_name() not in {"sqlite", "postgresql"}:
        raise ValueError(f"a store is SQLite or PostgreSQL, not {made.get_backend_name()}")
    return _local(made) if made.get_backend_name() == "sqlite" else made


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a file that a user named; `~` is the user's folder."""
    return Path(os.fspath(path)).expanduser().absolute()


def _refuse_other_forms(name: str) -> None:
    """Refuse what is meant for a database, and would become the name of a file."""
    # None is quoted: it may have a password in it.
    if _KEYWORDS.match(name):
        raise ValueError(
            f"a store in PostgreSQL is named by a URL, not by keywords: write {_POSTGRESQL}, or give the name of a file"
            " as a pathlib.Path"
        )
    found = _SCHEME.match(name)
    if found is None:
        return
    scheme = found["scheme"].lower()
    if scheme == "file":
        raise ValueError(_no_file_uri())
    right = "sqlite:///path" if scheme == "sqlite" else _POSTGRESQL
    raise ValueError(f"a store is SQLite or PostgreSQL, and its URL has slashes after {scheme}: as in {right}")


def _no_file_uri() -> str:
    return "a store in SQLite is a path without options, not a URI with file: write the path alone, or sqlite:///path"


def _driver_of(scheme: str) -> str:
    """Return the name of a database and its driver as SQLAlchemy knows it; libpq takes `postgres`, too."""
    name, plus, driver = scheme.lower().partition("+")
    return f"{'postgresql' if name == 'postgres' else name}{plus}{driver}"


def shown(url: URL) -> str:
    """Return a URL as a text that holds neither its password nor a secret parameter."""
    return Scrubber().value(url.render_as_string())


def shown_error(error: DBAPIError, url: URL) -> str:
    """Return what a database says of an error, without the secrets of its URL."""
    return Scrubber([*secrets_in(url.render_as_string(hide_password=False))]).text(said_by(error.orig))


def said_by(cause: object) -> str:
    """Return the first line of what a driver raises: in the lines below it PostgreSQL quotes rows of sessions."""
    return str(getattr(getattr(cause, "diag", None), "message_primary", None) or cause)


def _local(url: URL) -> URL:
    """Return the URL of a file by its real path: all who open the file have to meet at the same locks."""
    name = url.database or ""
    if url.host and not name:
        raise ValueError("a store in SQLite is a path, which stands after three slashes: as in sqlite:///path")
    if not name.strip() or name == ":memory:":
        raise ValueError("a store in memory would not outlive its process: name a file")
    if name.lower().startswith("file:"):
        raise ValueError(_no_file_uri())
    check_storable("the path of a store", name)
    if url.host or url.username or url.password or url.query or url.get_driver_name() != "pysqlite":
        raise ValueError(f"a store in SQLite is a path and nothing else, not {shown(url)}")
    path = os.path.realpath(os.path.expanduser(name))  # noqa: PTH111 - may be no `Path`
    # A link, or the folder that a relative path starts in, may have any name.
    check_storable("the path of a store", path)
    return URL.create("sqlite", database=path)
