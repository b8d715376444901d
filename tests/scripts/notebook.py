"""Runs a notebook in a real Jupyter kernel, and prints the outputs of its cells as JSON.

Usage: notebook.py. An output is a text, or the name and the text of an error.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import nbformat
from jupyter_core.utils import ensure_async
from nbclient import NotebookClient

BEGAN = Path(os.environ["RAILTRACKS_HOME"]) / "began"

CELLS = [
    """
import asyncio, os, trio
from pathlib import Path
import railtracks as rt
events, home = [], Path(os.environ["RAILTRACKS_HOME"])

@rt.function_node
async def double(number):
    await trio.sleep(0.01)
    return 2 * number

async def interrupted():
    try:
        (home / "began").touch()
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.1)
        events.append("cleaned up")

async def broken():
    raise ValueError("no")

flow = rt.Flow("double", double)
""",
    "await flow.ainvoke(4)",
    "sum(await asyncio.gather(*(flow.ainvoke(number) for number in range(200))))",
    "flow.invoke(4)",
    "await rt.call(double, 4)",
    "rt.context.get('user')",
    "await rt.Flow('broken', broken).ainvoke()",
    "await rt.Flow('interrupted', interrupted).ainvoke()",
    "events, [rt.load_state(path).status.value for path in home.glob('interrupted-*.json')]",
    "await flow.ainvoke(5)",
]
# The first leaves a flow that runs on, and a worker process; then the kernel is restarted.
LEFT = """
import asyncio, os, trio
from pathlib import Path
import railtracks as rt
home = Path(os.environ["RAILTRACKS_HOME"])

async def left():
    process = await rt.call(rt.function_node(os.getpid, run_in="process"))
    (home / "worker").write_text(str(process))
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.1)
        (home / "left").touch()

left = asyncio.create_task(rt.Flow("left", left).ainvoke())
while not (home / "worker").exists():
    await asyncio.sleep(0.01)
"""
AFTER = """
import os
from pathlib import Path
import railtracks as rt
home = Path(os.environ["RAILTRACKS_HOME"])
try:
    os.kill(int((home / "worker").read_text()), 0)
    worker = "runs on"
except ProcessLookupError:
    worker = "is gone"
(home / "left").exists(), worker, [rt.load_state(path).status.value for path in home.glob("left-*.json")]
"""


def shown(output: dict[str, object]) -> object:
    """Return the part of a cell's output that the test looks at."""
    if output["output_type"] == "error":
        return [output["ename"], output["evalue"]]
    data = output.get("data")
    return data["text/plain"] if isinstance(data, dict) else output.get("text")


async def interrupt(client: NotebookClient) -> None:
    """Interrupt the kernel, as the button does, when the cell that is to be interrupted has begun."""
    while not BEGAN.exists():  # noqa: ASYNC110 - the kernel is another process
        await asyncio.sleep(0.05)
    await ensure_async(client.km.interrupt_kernel())


async def main() -> None:
    """Run the notebook."""
    cells = [nbformat.v4.new_code_cell(cell) for cell in (*CELLS, LEFT, AFTER)]
    after = cells[-1]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, timeout=60, kernel_name="python3", allow_errors=True)
    interrupting = asyncio.create_task(interrupt(client))
    async with client.async_setup_kernel():
        for index, cell in enumerate(cells):
            if cell is after:
                await ensure_async(client.km.restart_kernel())
                await ensure_async(client.kc.wait_for_ready(timeout=30))
            await client.async_execute_cell(cell, index)
        await interrupting
    print(json.dumps([[shown(output) for output in cell.outputs] for cell in cells]))


if __name__ == "__main__":
    asyncio.run(main())
