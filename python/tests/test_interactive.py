"""Interactive and offline runs: shipped while their process lives, ended when it dies, synced when a server comes back."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from fake_server import FakeServer

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
BEGIN = """
import os, sys, time
from stellwerk._interactive import begin, begin_offline, context
from stellwerk._transport import Transport
def start(**more):
    return begin(Transport(sys.argv[1], "user-token"), "ws", "e", id="i1", lease_seconds=0.9, **more)
"""


class InteractiveCase(unittest.TestCase):
    def setUp(self):
        self.server = FakeServer()
        self.addCleanup(lambda: self.server.stop())
        self.runs = tempfile.mkdtemp(prefix="stellwerk runs ")
        self.addCleanup(shutil.rmtree, self.runs, True)

    def python(self, script, *, wait=True, arguments=(), **env):
        env = dict(os.environ, PYTHONPATH=SOURCE, STELLWERK_RUNS_FOLDER=self.runs, **env)
        env.pop("STELLWERK_RUN_FOLDER", None)
        process = subprocess.Popen(
            [sys.executable, "-c", BEGIN + script, self.server.url, *arguments], env=env,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        self.addCleanup(lambda: process.poll() is None and (process.kill(), process.wait()))
        if wait:
            self.out, self.err = (part.decode() for part in process.communicate(timeout=60))
            self.assertEqual(process.returncode, 0, self.err)
        return process

    def sync(self, *arguments):
        env = dict(os.environ, PYTHONPATH=SOURCE, STELLWERK_RUNS_FOLDER=self.runs, STELLWERK_URL=self.server.url, STELLWERK_TOKEN="t")
        return subprocess.run([sys.executable, "-m", "stellwerk", "sync", *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, "this did not happen in %s s" % seconds)
            time.sleep(0.02)

    def values(self, run, name):
        return [entry[2] for entry in self.server.entries(run) if entry[0] == "m" and entry[1] == name]


class TestInteractive(InteractiveCase):
    def test_complete_returns_when_the_server_has_everything(self):
        self.python("""
run = start(display_name="by hand", tags={"a": "b"})
run.journal.log("x", 1.5)
with run.child(display_name="inner") as child:
    child.journal.log("y", 2)
open("/tmp/stellwerk-upload-%d" % os.getpid(), "w").write("u")
run.journal.stage("/tmp/stellwerk-upload-%d" % os.getpid(), "outputs/u.txt")
os.unlink("/tmp/stellwerk-upload-%d" % os.getpid())
run.complete()
""")  # fmt: skip
        run = self.server.run("i1")
        self.assertEqual((run["state"], run["displayName"], run["tags"]), ("completed", "by hand", {"a": "b"}))
        self.assertEqual(self.values("i1", "x"), [1.5])
        self.assertIn("outputs/u.txt", run["files"])
        child = next(other for other in self.server.runs.values() if other.get("parent") == "i1")
        self.assertEqual((child["state"], child["displayName"]), ("completed", "inner"))
        self.assertEqual(os.listdir(self.runs), [])
        self.assertEqual(self.err, "")

    def test_a_with_block_that_raises_fails_the_run_with_the_error(self):
        self.python("try:\n    with start() as run: 1 / 0\nexcept ZeroDivisionError: pass")
        self.assertEqual((self.server.run("i1")["state"], self.server.run("i1")["reason"]), ("failed", "ZeroDivisionError: division by zero"))

    def test_the_lease_is_renewed_while_the_process_lives_and_a_killed_process_fails_the_run(self):
        process = self.python("run = start()\nrun.journal.log('x', 1)\ntime.sleep(60)", wait=False)
        self.until(lambda: len(self.server.run("i1")["reports"]) >= 3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.until(lambda: self.server.run("i1")["state"] == "failed")
        self.assertEqual(self.server.run("i1")["reason"], "The process that started the run ended without completing it.")
        self.until(lambda: os.listdir(self.runs) == [])

    def test_without_a_server_the_run_goes_on_and_is_synced_later(self):
        self.server.stop()
        self.python("run = start()\nrun.journal.log('x', 1)\nrun.child().journal.log('y', 1)\nrun.complete(wait=0.5)")
        self.assertIn("The run starts all the same", self.err)
        self.assertIn("python -m stellwerk sync", self.err)
        shipper = json.load(open(os.path.join(self.runs, os.listdir(self.runs)[0], "shipper.json")))
        os.kill(shipper["pid"], signal.SIGKILL)
        self.server.restart()
        done = self.sync()
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(self.server.run("i1")["state"], "completed")
        self.assertEqual(len(self.server.runs), 2)
        self.assertEqual(os.listdir(self.runs), [])

    def test_a_refusal_is_told_at_once_and_leaves_nothing(self):
        self.python("from stellwerk._transport import ServiceError\ntry: start(parent='nobody')\nexcept ServiceError as e: print(e.reason)")
        self.assertEqual(self.out, "run.not-found\n")
        self.assertEqual(os.listdir(self.runs), [])

    def test_a_run_that_somebody_cancels_is_canceled_whatever_its_process_does(self):
        process = self.python("run = start()\nrun.journal.log('x', 1)\nsys.stdin.read()\nrun.journal.log('x', 2)\nrun.complete()", wait=False)
        self.until(lambda: self.values("i1", "x") == [1])
        self.server.run("i1")["cancel"] = True
        self.until(lambda: self.server.run("i1")["state"] == "canceled" and os.listdir(self.runs) == [])
        process.stdin.close()
        self.assertEqual(process.wait(60), 0)
        self.assertEqual((self.server.run("i1")["state"], os.listdir(self.runs)), ("canceled", []))

    def test_flush_brings_what_was_logged_so_far(self):
        self.python("run = start()\nrun.journal.log('x', 1)\nrun.flush()\nprint('flushed', flush=True)\nsys.stdin.read()", wait=False)
        self.until(lambda: self.values("i1", "x") == [1])


class TestOffline(InteractiveCase):
    def test_an_offline_run_is_kept_and_synced_with_its_times(self):
        self.python("run = context()\nrun.journal.log('x', 4.0)\nrun.child(display_name='c').journal.log('y', 5)")
        record = json.load(open(os.path.join(self.runs, os.listdir(self.runs)[0], "run.json")))
        done = self.sync("--workspace", "ws", "--experiment", "later")
        self.assertEqual(done.returncode, 0, done.stdout)
        run = self.server.run(record["id"])
        self.assertEqual((run["state"], run["experiment"], run["startedAt"]), ("completed", "later", record["startedAt"]))
        self.assertEqual(run["endedAt"], record["endedAt"])
        self.assertEqual(self.values(record["id"], "x"), [4.0])
        self.assertEqual(sorted(other["state"] for other in self.server.runs.values()), ["completed", "completed"])
        self.assertEqual(self.sync("--workspace", "ws").returncode, 0)

    def test_a_context_that_logs_nothing_leaves_nothing(self):
        self.python("context()")
        self.assertEqual(os.listdir(self.runs), [])

    def test_an_uncaught_error_makes_it_failed_and_a_kill_too(self):
        for end in ("raise KeyError('x')", "os.kill(os.getpid(), 9)"):
            process = self.python("context().journal.log('x', 1)\n" + end, wait=False)
            process.wait()
        self.sync("--workspace", "ws")
        self.assertEqual({run["state"] for run in self.server.runs.values()}, {"failed"})
        reasons = {run["reason"] for run in self.server.runs.values()}
        self.assertEqual(reasons, {"KeyError: 'x'", "The process ended without completing the run."})

    def test_a_run_that_is_going_on_is_left_alone(self):
        process = self.python("context().journal.log('x', 1)\nprint('on', flush=True)\ntime.sleep(60)", wait=False)
        process.stdout.readline()
        self.assertIn(b"is left alone", self.sync("--workspace", "ws").stdout)
        self.assertEqual(self.server.runs, {})

    def test_without_a_workspace_it_is_told_what_is_missing(self):
        self.python("context().journal.log('x', 1)")
        done = self.sync()
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"name the server and the workspace", done.stdout)


if __name__ == "__main__":
    unittest.main()
