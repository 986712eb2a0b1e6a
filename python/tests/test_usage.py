"""What a run takes of its machine, what it is told ahead of its end, and why it was ended."""

import json
import os
import signal
import subprocess
import sys
import unittest

from stellwerk.runner.memory import MemoryKills
from test_runner import RunnerCase

WORKING = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; held = bytearray(b'x') * 120_000_000; time.sleep(4)"])
held = bytearray(b"x") * 60_000_000
until = time.monotonic() + 3
while time.monotonic() < until:
    sum(range(10_000))
child.wait()
"""

WARNED = """
import signal, sys, time
def warned(number, frame):
    print("warned by", number, flush=True)
    open("checkpoints/step", "w").write("7")
signal.signal(signal.SIGUSR1, warned)
print("ready", flush=True)
time.sleep(60)
"""


class TestUsage(RunnerCase):
    @property
    def verdict(self):
        return next(report for report in self.run_record["reports"] if report.get("state") in ("completed", "failed"))

    def samples(self):
        found = {}
        for entry in self.server.entries("r1"):
            if entry[0] == "u":
                found.setdefault(entry[1], []).append(entry[2])
        return found

    def test_what_its_own_processes_take_is_sampled_and_summed_up(self):
        other = subprocess.Popen([sys.executable, "-c", "import time; held = bytearray(b'x') * 400_000_000; time.sleep(60)"])
        self.started.append(other)
        self.assertEqual(self.execute(self.job(WORKING)), 0)
        samples = self.samples()
        peak = max(samples["memoryBytes"])
        self.assertTrue(180e6 < peak < 380e6, peak)
        self.assertTrue(0.1 < max(samples["cpus"]) < 3, samples["cpus"])
        self.assertEqual({len(samples[name]) for name in ("readBytesPerSecond", "writtenBytesPerSecond", "receivedBytesPerSecond", "sentBytesPerSecond")}, {len(samples["cpus"])})
        usage = self.verdict["usage"]
        self.assertGreater(usage["cpuSeconds"], 0.3)
        self.assertTrue(180e6 < usage["peakMemoryBytes"] < 380e6, usage)

    def test_cpu_time_of_children_that_ended_counts(self):
        burns = "import time; until = time.process_time() + 0.5\nwhile time.process_time() < until: pass"
        self.assertEqual(self.execute(self.job("import subprocess, sys\nfor _ in range(3): subprocess.run([sys.executable, '-c', %r])" % burns)), 0)
        self.assertGreater(self.verdict["usage"]["cpuSeconds"], 1.4)

    def test_of_gpus_only_its_own_are_sampled(self):
        folder = os.path.join(self.folder, "bin")
        os.makedirs(folder)
        program = os.path.join(folder, "nvidia-smi")
        with open(program, "w") as file:
            file.write("#!/bin/sh\nprintf 'GPU-a, 99, 70000, 300.5\\nGPU-b, 50, 1024, [N/A]\\n'\n")
        os.chmod(program, 0o755)
        job = self.job("import time; time.sleep(1.2)", gpus=["GPU-b"], resources={"nodes": 1, "gpus": 1})
        self.assertEqual(self.execute(job, PATH=folder + os.pathsep + os.environ["PATH"]), 0)
        samples = self.samples()
        self.assertEqual((set(samples["gpu0.use"]), set(samples["gpu0.memoryBytes"])), ({0.5}, {1024.0 * 1024 * 1024}))
        self.assertEqual([name for name in samples if name.startswith("gpu")], ["gpu0.use", "gpu0.memoryBytes"])


class TestForetold(RunnerCase):
    def test_a_script_that_asks_for_it_is_told_ahead_of_its_time_limit(self):
        job = self.job(WARNED, resources={"nodes": 1, "gpus": 0, "timeLimitSeconds": 3}, configuration={"warning": {"signal": "USR1", "seconds": 2}})
        self.assertEqual(self.execute(job), 0)
        self.assertIn("warned by %d" % signal.SIGUSR1, self.server.log("r1"))
        self.assertIn("checkpoints/step", self.run_record["files"])
        self.assertIn(("failed", "time-limit"), [(report.get("state"), report.get("cause")) for report in self.run_record["reports"]])

    def test_it_is_told_when_its_target_warns_the_runner(self):
        process = self.start(self.job(WARNED, configuration={"warning": {"signal": "USR1", "seconds": 60}}))
        self.until(lambda: "ready" in self.server.log("r1"))
        process.send_signal(signal.SIGUSR1)
        self.until(lambda: "warned by" in self.server.log("r1"))
        process.send_signal(signal.SIGUSR1)
        process.terminate()
        process.wait(30)
        self.assertEqual(self.server.log("r1").count("warned by"), 1)

    def test_a_script_that_does_not_ask_is_left_alone(self):
        process = self.start(self.job("import time; print('ready', flush=True); time.sleep(1); print('through')"))
        self.until(lambda: "ready" in self.server.log("r1"))
        process.send_signal(signal.SIGUSR1)
        self.assertEqual(process.wait(30), 0)
        self.assertEqual((self.run_record["state"], self.server.log("r1")), ("completed", "ready\nthrough\n"))


class TestMemoryKills(unittest.TestCase):
    def test_only_a_kill_that_was_counted_meanwhile_explains_an_end(self):
        kills = MemoryKills()
        self.assertFalse(kills.explain(-9))
        kills._machine -= 1
        self.assertEqual([kills.explain(code) for code in (0, None, 1, -15, -9)], [False, False, False, False, True])
        kills._group -= 1
        self.assertEqual([kills.explain(code) for code in (0, 1, -9)], [False, True, True])
        self.assertIn("ran out of memory", kills.reason({"peakMemoryBytes": 3e9}))
        self.assertIn("3.0 GB", kills.reason({"peakMemoryBytes": 3e9}))


if __name__ == "__main__":
    unittest.main()
