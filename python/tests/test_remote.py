"""What is asked about a job on a machine that a server reaches from elsewhere: started once, found again, ended wholly, cleaned up."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from fake_server import FakeServer

SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
sys.path.insert(0, SOURCES)

FAMILY = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={}, start_new_session=True)
print("ready", flush=True)
time.sleep(600)
"""


@unittest.skipUnless(sys.platform.startswith("linux"), "such machines run Linux")
class TestRemote(unittest.TestCase):
    def setUp(self):
        self.server = FakeServer()
        self.addCleanup(self.server.stop)
        self.above = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.above, True)
        self.folder = os.path.join(self.above, "a job")

    def ask(self, *words, given=None, check=True):
        env = dict(os.environ, PYTHONPATH=SOURCES)
        command = [sys.executable, "-S", "-m", "stellwerk.runner.remote", *words]
        done = subprocess.run(command, input=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, universal_newlines=True)
        if check:
            self.assertEqual(done.returncode, 0, done.stderr)
            return json.loads(done.stdout)
        return done

    def job(self, script):
        snapshot = self.server.add_snapshot({"train.py": script.encode()})
        return json.dumps({
            "server": self.server.url, "token": "t", "workspace": "ws", "experiment": "e", "run": "r", "attempt": 1, "snapshot": snapshot,
            "configuration": {"script": "train.py", "arguments": [], "environmentVariables": {}, "graceSeconds": 1},
            "environment": {"kind": "user-managed", "interpreterPath": sys.executable, "notices": []}, "dataReferences": {}, "secrets": {}, "vaultSecrets": {}, "indexes": {"environment": {}},
            "leaseSeconds": 1, "resources": {"nodes": 1, "gpus": 0},
        })  # fmt: skip

    def until(self, what):
        for _ in range(600):
            if what():
                return
            time.sleep(0.05)
        log = os.path.join(self.folder, "runner.log")
        self.fail(open(log).read() if os.path.exists(log) else "it did not come")

    def marked(self):
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/environ" % name, "rb") as file:
                    if self.folder.encode() in file.read():
                        found.append(name)
            except OSError:
                pass
        return found

    def test_a_job_is_started_once_and_cleaned_up_twice(self):
        job = self.job(FAMILY)
        self.assertEqual(self.ask("start", self.folder, given=job), {"state": "running"})
        with open(os.path.join(self.folder, "process.json")) as file:
            first = json.load(file)
        self.assertEqual(self.ask("start", self.folder, given=job), {"state": "running"})
        with open(os.path.join(self.folder, "process.json")) as file:
            self.assertEqual(json.load(file), first)
        self.assertEqual(os.stat(os.path.join(self.folder, "job.json")).st_mode & 0o777, 0o600)
        self.until(lambda: "ready" in self.server.log("r"))
        self.assertEqual(self.ask("kill", self.folder), {"state": "ended"})
        self.assertEqual(self.marked(), [])
        for _ in range(2):
            self.ask("clean", self.folder)
        self.assertEqual(os.listdir(self.above), [])

    def test_a_start_that_was_not_written_down_is_found_by_its_mark(self):
        job = self.job(FAMILY)
        self.ask("start", self.folder, given=job)
        os.unlink(os.path.join(self.folder, "process.json"))
        self.assertEqual(self.ask("start", self.folder, given=job), {"state": "running"})
        with open(os.path.join(self.folder, "runner.log")) as file:
            self.assertNotIn("Traceback", file.read())
        self.ask("clean", self.folder)
        self.assertEqual(self.marked(), [])

    def test_a_job_that_is_placed_waits_for_its_runner_which_dies_with_who_started_it(self):
        job = self.job(FAMILY)
        for _ in range(2):
            self.assertEqual(self.ask("place", self.folder, given=job)["state"], "waiting")
        batch = os.path.join(SOURCES, "stellwerk", "runner", "batch.py")
        starter = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"
        first = subprocess.Popen([sys.executable, "-c", starter, batch, self.folder], stderr=subprocess.DEVNULL)
        self.until(lambda: "ready" in self.server.log("r"))
        self.assertEqual(self.ask("look", self.folder), {"state": "running"})
        second = subprocess.run([sys.executable, batch, self.folder], stderr=subprocess.PIPE, universal_newlines=True)
        self.assertEqual(second.returncode, 1)
        self.assertIn("waits for its runner", second.stderr)
        first.kill()
        first.wait()
        self.until(lambda: not self.marked())
        self.assertEqual(self.ask("look", self.folder), {"state": "ended"})
        self.ask("clean", self.folder)
        self.assertEqual(os.listdir(self.above), [])

    def test_a_runner_of_an_earlier_boot_is_gone_with_its_machine(self):
        self.ask("start", self.folder, given=self.job(FAMILY))
        written = os.path.join(self.folder, "process.json")
        with open(written) as file:
            runner = json.load(file)
        with open(written, "w") as file:
            json.dump(dict(runner, bootId="another"), file)
        seen = self.ask("look", self.folder)
        self.assertEqual((seen["state"], seen["cause"]), ("ended", "node-lost"))
        os.kill(runner["pid"], signal.SIGKILL)
        self.ask("clean", self.folder)

    def test_the_way_to_the_server_is_turned_to_the_newest_socket(self):
        os.mkdir(self.folder)
        for relay in ("/one", "/two", "/two"):
            self.ask("look", self.folder, "--relay", relay)
            self.assertEqual(os.readlink(os.path.join(self.folder, "relay")), relay)
        self.assertEqual(os.listdir(self.folder), ["relay"])

    def test_what_is_not_there_has_ended_and_what_cannot_be_done_says_why(self):
        self.assertIn("not on the machine", self.ask("look", self.folder)["reason"])
        self.ask("clean", self.folder)
        refused = self.ask("start", os.path.join("/proc", "job"), given="{}", check=False)
        self.assertEqual((refused.returncode, refused.stdout), (1, ""))
        self.assertIn("/proc/job", refused.stderr)

    def test_a_machine_tells_what_it_has(self):
        told = self.ask("describe")
        self.assertGreater(told["cpus"], 0)
        self.assertGreater(told["memoryBytes"], 2**20)
        self.assertIn("linux", told["platform"]["platform"])


class TestBundles(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(dir="/tmp")  # a socket's path must be short
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.bundle = self.made("bundles", "a" * 24)
        shutil.copytree(os.path.join(SOURCES, "stellwerk"), os.path.join(self.bundle, "stellwerk"))
        for name in ("jobs", "relay"):
            self.made(name)

    def made(self, *parts):
        path = os.path.join(self.folder, *parts)
        os.makedirs(path)
        return path

    def job(self, name, **files):
        folder = self.made("jobs", name)
        for file, text in files.items():
            with open(os.path.join(folder, file.replace("_", ".")), "w") as output:
                output.write(text)

    def asked(self, *words):
        command = [sys.executable, "-S", "-m", "stellwerk.runner.bundles", *words]
        env = dict(os.environ, PYTHONPATH=self.bundle)
        return subprocess.run(command, stdout=subprocess.PIPE, env=env, universal_newlines=True, check=True).stdout.split()

    def test_others_go_once_no_job_runs_from_them(self):
        used, scripted, unused = (self.made("bundles", letter * 24) for letter in "bcd")
        making = self.made("bundles", "e" * 24 + ".1234")
        self.job("one", bundle=used)
        self.job("two", batch_sh="export PYTHONPATH=%s" % scripted)
        self.assertEqual(self.asked("prune", self.folder), [unused])
        self.job("three")
        shutil.rmtree(os.path.join(self.folder, "jobs", "one"))
        self.assertEqual(self.asked("prune", self.folder), [])  # nobody knows what that one runs from
        shutil.rmtree(os.path.join(self.folder, "jobs", "three"))
        self.assertEqual(self.asked("prune", self.folder), [used])
        self.assertTrue(all(os.path.isdir(path) for path in (self.bundle, scripted, making)))

    def test_a_folder_is_forgotten_when_neither_a_job_nor_another_target_needs_it(self):
        own, other = (os.path.join(self.folder, "relay", name) for name in ("own", "other"))
        with socket.socket(socket.AF_UNIX) as mine, socket.socket(socket.AF_UNIX) as others:
            for listening, path in ((mine, own), (others, other)):
                listening.bind(path)
                listening.listen(1)
            self.assertEqual(self.asked("forget", self.folder, "--relay", own), [])
            others.close()
            self.job("one", bundle=self.bundle)
            self.assertEqual(self.asked("forget", self.folder, "--relay", own), [])
            shutil.rmtree(os.path.join(self.folder, "jobs", "one"))
            self.assertEqual(self.asked("forget", self.folder, "--relay", own), [self.folder])
        self.assertFalse(os.path.exists(self.folder))


if __name__ == "__main__":
    unittest.main()
