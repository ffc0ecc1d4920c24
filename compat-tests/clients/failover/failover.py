"""kazoo against three servers, one of which goes: sessions and ephemerals stay, and a lock has one holder.

    failover.py HOST:PORT,HOST:PORT,HOST:PORT

Says `ready` when all clients are at work. A line on stdin says that the fault is over; then they must all have
gone on, and the exit code is the verdict.
"""

import sys
import threading
import time

from kazoo.client import KazooClient, KazooState
from kazoo.retry import KazooRetry

SERVERS = sys.argv[1]
CLIENTS = 4
# Sections that each client must have after the fault.
MORE = 5
DEADLINE = 30


class Worker(threading.Thread):
    """Goes through the lock again and again, and adds one to a node each time."""

    holders = 0
    added = 0
    failure = None
    is_over = threading.Event()

    def __init__(self, number):
        super().__init__(daemon=True)
        self.sections = 0
        self.was_lost = False
        retry = KazooRetry(max_tries=-1, delay=0.05, backoff=1, max_delay=0.2)
        self.zk = KazooClient(
            hosts=SERVERS, timeout=10.0, randomize_hosts=True, connection_retry=retry, command_retry=retry
        )
        self.zk.add_listener(self.on_state)
        self.zk.start(timeout=DEADLINE)
        self.session = self.zk.client_id[0]
        self.zk.ensure_path("/count")
        self.mine = f"/mine-{number}"
        self.zk.create(self.mine, b"", ephemeral=True)
        self.lock = self.zk.Lock("/lock", str(number))

    def on_state(self, state):
        if state == KazooState.LOST and not Worker.is_over.is_set():
            self.was_lost = True

    def run(self):
        try:
            while not Worker.is_over.is_set():
                self.section()
        except BaseException as failure:
            Worker.failure = failure
            raise

    def section(self):
        zk = self.zk
        with self.lock:
            Worker.holders += 1
            assert Worker.holders == 1, f"{Worker.holders} hold the lock"
            data, _ = zk.retry(zk.get, "/count")
            # Said again after a loss it sets the same, so it counts once.
            zk.retry(zk.set, "/count", str(int(data or b"0") + 1).encode())
            Worker.added += 1
            self.sections += 1
            Worker.holders -= 1

    def check(self):
        assert not self.was_lost, f"the session of {self.mine} was lost"
        assert self.zk.client_id[0] == self.session, f"{self.mine} has another session"
        stat = self.zk.retry(self.zk.exists, self.mine)
        assert stat is not None, f"{self.mine} is gone"
        assert stat.ephemeralOwner == self.session, f"{self.mine} is another's"


def until(what, holds):
    end = time.monotonic() + DEADLINE
    while not holds():
        if Worker.failure is not None:
            raise Worker.failure
        assert time.monotonic() < end, f"timed out waiting until {what}"
        time.sleep(0.01)


workers = [Worker(number) for number in range(CLIENTS)]
for worker in workers:
    worker.start()
until("all are at work", lambda: all(worker.sections >= MORE for worker in workers))
print("ready", flush=True)
assert sys.stdin.readline(), "nobody says that the fault is over"
goals = [worker.sections + MORE for worker in workers]
until("all go on", lambda: all(worker.sections >= goal for worker, goal in zip(workers, goals)))
for worker in workers:
    worker.check()
Worker.is_over.set()
for worker in workers:
    worker.join(DEADLINE)
    assert not worker.is_alive(), "a worker does not end"
count = int(workers[0].zk.get("/count")[0])
assert count == Worker.added, f"{Worker.added} were added, and the count is {count}"
for worker in workers:
    worker.zk.stop()
print(f"ok, {count} sections", flush=True)
