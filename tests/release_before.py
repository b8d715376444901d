"""A program that runs the release before: a session waits in its middle, while somebody upgrades its store.

Arguments: the store. It prints what it has come to, and goes on when the signal "go" is sent.
"""

from __future__ import annotations

import sys

import railtracks as rt


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@rt.function_node
async def step(number: int) -> int:
    tell(f"step {number}")
    return number


async def steps(count: int) -> int:
    found = [await rt.call(step, number) for number in range(count)]
    found.append(await rt.wait_for_signal("go", int))
    found += await rt.call_batch(step, range(count))
    return sum(found)


if __name__ == "__main__":
    # It keeps the store open: it could not open one that was upgraded.
    with rt.DurableStore(sys.argv[1]) as store:
        flow = rt.Flow("steps", steps, durable=store, save_state=False)
        tell(str(flow.invoke(3, session_id="begun before")))
        # After the upgrade: a session that knows nothing of the new columns, and one that dies.
        rt.Flow("short", step, durable=store, save_state=False).invoke(7, session_id="begun later")
        flow.invoke(2, session_id="killed")
