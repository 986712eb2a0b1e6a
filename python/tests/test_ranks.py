"""A script on several machines of which one leads: what is printed and sampled elsewhere is kept with the leader's, and it is told why all ended."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
sys.path.insert(0, SOURCES)

from stellwerk.runner.rank_files import RankFiles  # noqa: E402

_WORKS = """
import os, sys, time
rank = os.environ["RANK"]
print("rank", rank, "takes part", "\\u00e4" * 3, flush=True)
taken = b"x" * 30_000_000 * (int(rank) + 1)
time.sleep(3)
sys.exit(int(sys.argv[1]) if rank == "1" else 0)
"""
_WARNED = """
import os, signal, sys, time
told = []
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, _: told.append(number))
print("ready", flush=True)
wanted = signal.SIGUSR1 if os.environ["RANK"] == "0" else signal.SIGTERM
while wanted not in told:
    time.sleep(0.05)
assert "STELLWERK_RANK_SIGNALS" not in os.environ
print("rank", os.environ["RANK"], "was told", sorted(told), flush=True)
"""
_SHORT = "import os, sys; os.kill(os.getpid(), 9) if os.environ['RANK'] == '1' else sys.stdin.read()"
_SHORT_KILLS = """
from stellwerk.runner import memory, ranks
memory.MemoryKills.explain = lambda self, code: code == -9
"""


@unittest.skipUnless(sys.platform.startswith("linux"), "clusters run Linux")
class TestRanks(unittest.TestCase):
    def setUp(self):
        above = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, above, True)
        self.places = [os.path.join(above, name) for name in ("first", "second")]
        for place in self.places:
            os.makedirs(os.path.join(place, "job"))
            job = {"secrets": {}, "vaultSecrets": {}, "resources": {}}
            self.write(os.path.join(place, "job", "job.json"), json.dumps(job).encode())
            self.write(os.path.join(place, "key"), hashlib.sha256(b"ranks token").digest())
        self.write(os.path.join(self.places[0], "hosts"), b'["127.0.0.1", "127.0.0.1"]')

    def write(self, path, content):
        with open(path, "wb") as file:
            file.write(content)

    def start(self, what, place, *more, before=""):
        env = dict(os.environ, PYTHONPATH=SOURCES, STELLWERK_RANK_PYTHONPATH=SOURCES, STELLWERK_RUN_FOLDER=os.path.join(place, "job", "run"))
        env.pop("VIRTUAL_ENV", None)
        module = before + "\nimport sys\nfrom stellwerk.runner import ranks\nsys.exit(ranks.main(sys.argv[1:]))"
        process = subprocess.Popen([sys.executable, "-S", "-c", module, what, *more], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        for end in (process.wait, process.kill, process.stdout.close):
            self.addCleanup(end)
        return process

    def ran(self, program, *arguments, before="", meanwhile=lambda leader: None):
        first, second = self.places
        follower = self.start("follow", second, second, before=before)
        command = [sys.executable, "-S", "-m", "stellwerk.runner.rank", sys.executable, "-c", program, *arguments]
        leader = self.start("lead", first, os.path.join(first, "job"), *command)
        meanwhile(leader)
        printed = leader.communicate(timeout=60)[0].decode()
        follower.wait(60)
        return leader.returncode, printed, RankFiles(os.path.join(first, "job"))

    def test_what_one_elsewhere_prints_and_takes_is_kept_with_that_of_the_first(self):
        code, printed, files = self.ran(_WORKS, "0")
        self.assertEqual(code, 0)
        self.assertEqual(files.found(), (["rank-0.txt", "rank-1.txt"], ["node-0.jsonl", "node-1.jsonl"]))
        for rank in (0, 1):
            line = "rank %d takes part äää\n" % rank
            self.assertIn(line, printed)
            with open(files.log(rank), encoding="utf-8") as log:
                self.assertEqual(log.read(), line)
        with open(files.samples(1)) as samples:
            found = [json.loads(line) for line in samples]
        self.assertGreater(max(value for _, name, value, _ in found if name == "node1.memoryBytes"), 60e6)
        self.assertGreater(files.finish()["peakMemoryBytes"], 60e6)
        self.assertIsNone(files.out_of_memory())

    def test_all_end_with_the_code_of_the_first_that_fails(self):
        code, _, files = self.ran(_WORKS, "7")
        self.assertEqual((code, files.out_of_memory()), (7, None))

    def test_what_the_first_is_warned_of_and_asked_to_end_by_all_are(self):
        def tell(leader):
            for _ in range(2):
                self.assertEqual(leader.stdout.readline(), b"ready\n")
            leader.send_signal(signal.SIGUSR1)
            self.assertEqual(leader.stdout.readline(), b"rank 0 was told [10]\n")
            leader.send_signal(signal.SIGTERM)

        code, printed, _ = self.ran(_WARNED, meanwhile=tell)
        self.assertEqual((code, printed), (0, "rank 1 was told [10, 15]\n"))

    def test_want_of_memory_elsewhere_is_told(self):
        code, _, files = self.ran(_SHORT, before=_SHORT_KILLS)
        self.assertEqual(code, 137)
        self.assertIn("ran out of memory", files.out_of_memory())


if __name__ == "__main__":
    unittest.main()
