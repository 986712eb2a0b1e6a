"""A loop of steps of about a millisecond. In every second block of it each step is logged; and now and then a point says when it was logged."""
import statistics
import time

from stellwerk.core import Run

BLOCKS = 60
STEPS = 150
WORK = 20_000

run = Run.get_context()


def block(log):
    begun = time.perf_counter()
    for step in range(STEPS):
        loss = 0.0
        for i in range(WORK):
            loss += i * 1e-9
        if log:
            run.log("loss", loss, step=step)
    return time.perf_counter() - begun


plain, logged = [], []
for _ in range(BLOCKS):
    run.log("marked", time.time() * 1000)
    plain.append(block(False))
    logged.append(block(True))
# Neighbours see the same machine: what else it does falls on both.
run.log("slowed", 100 * (statistics.median(b / a for a, b in zip(plain, logged)) - 1))
