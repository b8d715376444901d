"""Runs the steps over SQLite and records what is written, what is synced, and what has come back in between.

`python durable_recorder.py FOLDER ROUNDS DURABILITY TRACE`: the trace is a pickled list of events in their order:
("open", path), ("write", path, offset, bytes), ("cut", path, size), ("sync", path), ("delete", path), ("begin", key),
("got", key) and ("drew", number). The functions of SQLite that touch the disk are wrapped in place; nothing else is
changed.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import pickle
import sys
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import durable_steps

import railtracks as rt

EVENTS: list[tuple[Any, ...]] = []
# What SQLite calls must outlive it.
KEPT: list[Any] = []

# A name is handed on as the pointer that it is: SQLite keeps it.
OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
DELETE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
SYNC = CFUNCTYPE(c_int, c_void_p, c_int)


class FileSystem(ctypes.Structure):
    """The head of `sqlite3_vfs`, https://sqlite.org/c3ref/vfs.html."""

    _fields_ = (
        ("version", c_int),
        ("size_of_file", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", OPEN),
        ("delete", DELETE),
    )


class Methods(ctypes.Structure):
    """`sqlite3_io_methods` of version 3, https://sqlite.org/c3ref/io_methods.html."""

    _fields_ = (
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", WRITE),
        ("truncate", TRUNCATE),
        ("sync", SYNC),
        ("others", c_void_p * 13),
    )


class File(ctypes.Structure):
    """`sqlite3_file`."""

    _fields_ = (("methods", POINTER(Methods)),)


def wrapped(methods: Methods, paths: dict[int, str]) -> Methods:
    """Return methods that tell what they do, once it is done."""

    def telling(kind: Any, known: Callable[..., int], event: Callable[..., tuple[Any, ...]]) -> Any:
        def run(file: int, *args: Any) -> int:
            # The bytes are the caller's: they are taken before and told after.
            told = event(paths.get(file, ""), *args)
            result = known(file, *args)
            if result == 0 and told[1]:
                EVENTS.append(told)
            return result

        made = kind(run)
        KEPT.append(made)
        return made

    own = Methods.from_buffer_copy(methods)
    own.write = telling(
        WRITE, methods.write, lambda path, data, size, offset: ("write", path, offset, ctypes.string_at(data, size))
    )
    own.truncate = telling(TRUNCATE, methods.truncate, lambda path, size: ("cut", path, size))
    own.sync = telling(SYNC, methods.sync, lambda path, _: ("sync", path))
    return own


def record() -> None:
    """Wrap what SQLite does to files."""
    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_vfs_find.restype = POINTER(FileSystem)
    system = library.sqlite3_vfs_find(None).contents
    # By address: of the fields only copies could be had.
    known_open = OPEN(ctypes.cast(system.open, c_void_p).value)
    known_delete = DELETE(ctypes.cast(system.delete, c_void_p).value)
    paths: dict[int, str] = {}
    made: dict[int, Methods] = {}

    def open_file(vfs: int, name: int | None, file: int, flags: int, out: int) -> int:
        result = known_open(vfs, name, file, flags, out)
        if result == 0 and name:
            paths[file] = ctypes.string_at(name).decode()
            EVENTS.append(("open", paths[file]))
            opened = File.from_address(file)
            address = ctypes.addressof(opened.methods.contents)
            if address not in made:
                made[address] = wrapped(opened.methods.contents, paths)
                KEPT.append(made[address])
            opened.methods = ctypes.pointer(made[address])
        return result

    def delete_file(vfs: int, name: int, sync: int) -> int:
        path = ctypes.string_at(name).decode()
        result = known_delete(vfs, name, sync)
        if result == 0:
            EVENTS.append(("delete", path))
        return result

    system.open, system.delete = OPEN(open_file), DELETE(delete_file)
    KEPT.extend([system.open, system.delete, known_open, known_delete, open_file, delete_file, library])


def tell(word: str, key: str) -> None:
    EVENTS.append((word, key))


if __name__ == "__main__":
    folder, rounds, durability, trace = sys.argv[1:]
    record()
    durable_steps.tell = tell
    with rt.DurableStore(Path(folder) / "store.db", durability=durability) as store:  # type: ignore[arg-type]
        durable_steps.INNER = rt.Flow("inner", durable_steps.inner, durable=store, save_state=False)
        flow = rt.Flow("steps", durable_steps.main, durable=store, save_state=False, logging_setting="NONE")
        print(flow.invoke(int(rounds), session_id="s"), flush=True)
    Path(trace).write_bytes(pickle.dumps(EVENTS))
