"""The MLflow run of a cell while it trains."""
from __future__ import annotations

import queue
import sys
import threading

from study.config.study import Study
from study.tracking.client import create_cell_run, find_runs, locked_experiment, log_curves, now
from study.tracking.redaction import redacted

DELAY = 40.0                                # seconds of training before the run is created
FLUSH_INTERVAL = 2.0                        # seconds between batches of metrics
PATIENCE = 10.0                             # seconds that a finished cell waits for the tracker
RUN_STATUS = {None: "FINISHED", KeyboardInterrupt: "KILLED"}    # exception type -> status; others: FAILED


class LiveRun:
    """Logs one cell to MLflow while it trains.

    A background thread does all the work. A slow or failing tracker neither delays the cell nor stops it; `study track`
    adds later what the tracker missed.

    The run is created with the first record, and not before `delay` seconds: loading MLflow would add a tenth to the
    time of a short cell, whose run nobody watches.
    """

    def __init__(self, study: Study, delay: float = DELAY):
        self.study, self.delay = study, delay
        self.events, self.ending = queue.SimpleQueue(), threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> LiveRun:
        self.thread.start()
        return self

    def __exit__(self, error_type, *_) -> None:
        self._put("end", RUN_STATUS.get(error_type, "FAILED"))
        self.ending.set()
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            _warn(f"not finished after {PATIENCE:.0f} s")

    def start(self, cell: dict) -> None:
        """Names the cell: study, arm, seed, fingerprint, settings."""
        self._put("start", cell)

    def log(self, record: dict, tokens_per_second: float) -> None:
        """Logs a record of metrics.jsonl and the training speed."""
        speed = {"tokens_per_second": tokens_per_second} if tokens_per_second else {}
        self._put("record", record | speed | {"time": now()})

    def finish(self, outcome: dict) -> None:
        """Logs the status in the content of training.json."""
        self._put("status", outcome["status"])

    def _put(self, event: str, content) -> None:
        if self.thread.is_alive():          # after an error, nobody reads the queue
            self.events.put((event, content))

    def _work(self) -> None:
        try:
            self._log_events()
        except Exception as error:          # no error of a tracker may stop the cell
            _warn(f"{redacted(repr(error)):.160}")

    def _log_events(self) -> None:
        cell, run, last_step, pending = None, None, -1, []
        while True:
            event, content = self.events.get()
            if event == "start":
                if self.delay and self.ending.wait(self.delay):
                    return
                cell = content
            elif event == "record":
                if run is None:
                    client, run, last_step = self._open(cell, content["step"])
                if content["step"] > last_step:
                    pending.append(content)
            elif event == "status" and run:
                client.set_tag(run, "status", content)
            if run and pending and (event == "end" or self.events.empty()):
                log_curves(client, run, pending)
                pending = []
                self.ending.wait(FLUSH_INTERVAL)    # meanwhile, records collect for the next batch
            if event == "end":
                if run:
                    client.set_terminated(run, content)
                return

    def _open(self, cell: dict, step: int) -> tuple:
        """A client, the id of the cell's run (new, or resumed), and the last step that it has.

        step: of the first record. Training that starts at step 0, or after a finished run, resumes nothing. It may be
        of other code than the run that has the same fingerprint, so it replaces that run.
        """
        with locked_experiment(self.study) as (client, experiment):
            runs = find_runs(client, experiment, fingerprint=cell["fingerprint"])
            resumable = [run for run in runs if step and run.info.status != "FINISHED"]
            if not resumable:
                for run in runs:
                    client.delete_run(run.info.run_id)
                return client, create_cell_run(client, self.study, experiment, cell, now()), -1
        run = resumable[0].info.run_id
        client.set_tag(run, "content", "live")
        client.update_run(run, status="RUNNING")
        return client, run, max((point.step for point in client.get_metric_history(run, "tokens")), default=-1)


def _warn(reason: str) -> None:
    print(f"MLflow logging stopped ({reason}); `study track` will add what is missing", file=sys.stderr, flush=True)
