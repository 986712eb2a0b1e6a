"""What the Python SDK costs a script: its import, and a logged point. One JSON line a figure, medians of nine."""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "python", "src")
sys.path.insert(0, SOURCE)

from stellwerk._journal import Journal  # noqa: E402

ROUNDS = 9
POINTS = 50_000


def figure(name, ours, unit, peer=None):
    print(json.dumps({"name": name, "ours": ours, "peer": peer, "unit": unit}), flush=True)


def importing():
    program = "import time; begun = time.perf_counter(); import stellwerk.core; print(time.perf_counter() - begun)"
    env = dict(os.environ, PYTHONPATH=SOURCE)
    return statistics.median(float(subprocess.check_output([sys.executable, "-c", program], env=env)) for _ in range(ROUNDS)) * 1000


def rate(act):
    rates = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for i in range(POINTS):
            act(i)
        rates.append(POINTS / (time.perf_counter() - begun))
    return statistics.median(rates)


figure("import", importing(), "ms")
with tempfile.TemporaryDirectory() as folder:
    journal = Journal(folder)
    logged = rate(lambda i: journal.log("loss", i * 0.1, i))
    written = max(entry.stat().st_size for entry in os.scandir(folder))
    assert written > ROUNDS * POINTS * 20, "the journal was not written"
    file = os.open(os.path.join(folder, "bare"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    line = b'["m","loss",0.1,12345,1763900000.123456]\n'
    figure("sdk-log", logged, "calls/s", peer=rate(lambda i: os.write(file, line)))
