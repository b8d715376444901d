"""Damaged copies of saved states, one after another, in a process that an audit hook watches.

`python damaged_states.py FOLDER SEED FIRST COUNT STATE...`

Each copy is one of the states with one or two damages. It is loaded, and all that it tells is asked for. Each line on
standard output is a breach: an error that is not the library's own, or something that was called, imported or touched
outside of the folder of the copies. The last line is a JSON object: how many copies were read, and how many refused.
"""

from __future__ import annotations

import copy
import faulthandler
import json
import random
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from watched_process import Watch, lay_trap

import railtracks as rt

FOLDER, SEED, FIRST, COUNT = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
STATES = [Path(each).read_bytes() for each in sys.argv[5:]]
WATCH = Watch(FOLDER / "store")


def bomb(*_: object) -> None:
    """Be a function of the main module that no code names."""
    WATCH.breaches.append("the function bomb was called")


VALUES: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2, 2**63, 10**400, 0.5, 1e300, "", "x", "running", "failed", "\ud800", [], {}, [[]],
    {"a": 1}, "1990-01-01T00:00:00+00:00", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
    # What leads somewhere, for those who follow it.
    "os:system", "builtins.eval", "shutil.rmtree", "__main__:bomb", "__main__.bomb", "lazy_trap:anything",
    "lazy_trap.anything", "this", "this:s", "builtins.SystemExit", "../../x", "../x.json", "/etc/passwd", "../secret",
    {"py/object": "lazy_trap.anything"}, {"__class__": "__main__.bomb"}, {"$ref": "../secret"},
)  # fmt: skip


def damage(draw: random.Random, document: Any) -> None:
    """Change something anywhere in a document."""
    places: list[tuple[Any, Any]] = []
    left = [document]
    while left:
        each = left.pop()
        inner = list(each.items() if isinstance(each, dict) else enumerate(each) if isinstance(each, list) else ())
        places.extend((each, key) for key, _ in inner)
        left.extend(item for _, item in inner)
    container, key = draw.choice(places)
    how = draw.random()
    if how < 0.15:
        del container[key]
    elif how < 0.25 and isinstance(container, list):
        container.append(copy.deepcopy(container[key]))
    else:
        other, its = draw.choice(places)
        container[key] = copy.deepcopy(draw.choice([*VALUES, other[its]]))


def damaged(draw: random.Random) -> bytes:
    """Return a copy with damages in its values, and in some in its bytes."""
    document = json.loads(draw.choice(STATES))
    for _ in range(draw.randrange(1, 3)):
        damage(draw, document)
    data = json.dumps(document).encode()
    if draw.random() < 0.3:
        cut = draw.randrange(len(data))
        data = data[:cut] + bytes([draw.randrange(256)]) + data[cut + 1 :]
    return data


def was_read(path: Path) -> bool:
    """Load a state and ask for all that it tells; return whether it was read."""
    try:
        info = rt.load_state(path)
        repr((info, info.answer, info.roots, [info.children(call.id) for call in info.calls]))
    except rt.StateError:
        return False
    except BaseException as error:  # noqa: BLE001 - this is what the script is for
        WATCH.breaches.append("".join(traceback.format_exception(error)))
    return True


def main() -> None:
    """Load all copies and print what came of them."""
    lay_trap(WATCH)
    read, path = 0, FOLDER / "store" / "state.json"
    # The whole ones import what is imported on first use.
    for state in STATES:
        path.write_bytes(state)
        assert was_read(path)
    for number in range(FIRST, FIRST + COUNT):
        path.write_bytes(damaged(random.Random(f"{SEED} {number}")))
        faulthandler.dump_traceback_later(60, exit=True)
        before = len(WATCH.breaches)
        with WATCH.watching():
            read += was_read(path)
        faulthandler.cancel_dump_traceback_later()
        for breach in WATCH.breaches[before:]:
            print(f"copy {number}: {breach}", flush=True)
    print(json.dumps({"read": read, "refused": COUNT - read}))


if __name__ == "__main__":
    main()
