"""A Celery application with a broker of files. `$CELERY_FOLDER` has its queues and results.

SIGTERM ends its flows where `$CELERY_POOL` is `threads`.
"""

import os
from pathlib import Path

import server_flows as flows
from celery import Celery
from celery.signals import worker_ready

import railtracks as rt

folder = Path(os.environ["CELERY_FOLDER"])
queues, control = str(folder / "queues"), str(folder / "control")
app = Celery(
    "celery_app",
    broker_url="filesystem://",
    result_backend=f"file://{folder}",
    broker_transport_options={"data_folder_in": queues, "data_folder_out": queues, "control_folder": control},
)
# The handler of the soft time limit raises in the main thread: it is not to strike in the middle of a Trio run.
rt.set_config(in_thread=True, save_state=False)


if os.environ["CELERY_POOL"] == "threads":

    @worker_ready.connect  # type: ignore[untyped-decorator]
    def end_flows_on_sigterm(**_: object) -> None:
        rt.shutdown_on_sigterm(flows.GRACE)


@app.task
def work(count: int) -> int:
    return flows.WORK.invoke(count)


@app.task
def fail() -> None:
    flows.FAIL.invoke()


@app.task
def hang() -> None:
    flows.HANG.invoke()


@app.task(soft_time_limit=0.3)
def too_slow() -> None:
    flows.HANG.invoke()
