"""The runner with real processes, against a server that misbehaves."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile

from fake_server import FakeServer

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")


class RunnerCase(unittest.TestCase):
    def setUp(self):
        self.server = FakeServer()
        self.addCleanup(lambda: self.server.stop())
        self.folder = tempfile.mkdtemp(prefix="stellwerk-test-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.started = []
        self.addCleanup(self.end_all)

    def end_all(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()

    def job(self, script, files=None, **more):
        files = {"train.py": script.encode(), **(files or {})}
        configuration = {"script": "train.py", "arguments": [], "environmentVariables": {}, "graceSeconds": 2}
        configuration.update(more.pop("configuration", {}))
        job = {
            "server": self.server.url, "token": "run-token-1234", "workspace": "ws", "experiment": "e", "run": "r1", "attempt": 1,
            "snapshot": self.server.add_snapshot(files), "configuration": configuration,
            "environment": {"kind": "user-managed", "interpreterPath": sys.executable, "notices": []},
            "dataReferences": {}, "secrets": {}, "vaultSecrets": {}, "indexes": {"environment": {}}, "leaseSeconds": 0.9, "resources": {"nodes": 1, "gpus": 0},
            "cacheFolder": os.path.join(self.folder, "cache"),
        }  # fmt: skip
        job.update(more)
        return job

    def start(self, job, name="attempt", **env):
        place = os.path.join(self.folder, name)
        os.makedirs(place)
        with open(os.path.join(place, "job.json"), "w") as file:
            json.dump(job, file)
        log = open(os.path.join(self.folder, name + ".log"), "wb")
        self.addCleanup(log.close)
        process = subprocess.Popen(
            [sys.executable, "-m", "stellwerk.runner", place], env={**os.environ, "PYTHONPATH": SOURCE, **env},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        process.place = place
        self.started.append(process)
        return process

    def execute(self, job, **env):
        process = self.start(job, **env)
        code = process.wait(60)
        with open(os.path.join(self.folder, "attempt.log")) as file:
            self.runner_log = file.read()
        if code not in (0, 3, 75):
            sys.stderr.write(self.runner_log)
        return code

    def until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, "this did not happen in %s s" % seconds)
            time.sleep(0.02)

    @property
    def run_record(self):
        return self.server.run("r1")

    def alive(self, pid):
        try:
            with open("/proc/%d/stat" % pid) as file:
                return file.read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False


LOGGING = """
import os, sys
from stellwerk._interactive import context
run = context()
for i in range(1000):
    run.journal.log("loss", 1 / (i + 1), i)
run.journal.param("alpha", 0.5)
for fold in range(3):
    with run.child(display_name="fold %d" % fold) as child:
        child.journal.log("mse", fold)
        with child.child() as grandchild:
            grandchild.journal.log("deep", 1)
os.makedirs("outputs/mädel")
open("outputs/mädel/a file.txt", "w", newline="").write("x\\r\\ny")
open("extra.bin", "wb").write(b"abc" * 100)
run.journal.stage("extra.bin", "uploaded/extra.bin")
print("hello", os.environ["TOKEN"])
print("to stderr", file=sys.stderr)
print(sys.argv[1:])
"""


class TestRunner(RunnerCase):
    def test_a_run_is_executed_and_everything_it_leaves_is_delivered(self):
        job = self.job(LOGGING, secrets={"TOKEN": "very secret"}, configuration={"arguments": ["--alpha", 0.5, "a b", "$(id)", "; id"]})
        self.assertEqual(self.execute(job), 0)
        run = self.run_record
        self.assertEqual(run["state"], "completed")
        self.assertEqual([r["state"] for r in run["reports"] if "state" in r], ["preparing", "running", "finalizing", "completed"])
        self.assertEqual(self.server.log("r1"), "hello ***\nto stderr\n['--alpha', '0.5', 'a b', '$(id)', '; id']\n")
        self.assertTrue(run["complete"]["output.txt"])
        losses = [entry for entry in self.server.entries("r1") if entry[0] == "m"]
        self.assertEqual([entry[3] for entry in losses], list(range(1000)))
        self.assertEqual(self.server.blobs[run["files"]["outputs/mädel/a file.txt"]], b"x\r\ny")
        self.assertEqual(self.server.blobs[run["files"]["uploaded/extra.bin"]], b"abc" * 100)
        children = [other for other in self.server.runs.values() if other["id"] != "r1"]
        self.assertEqual(len(children), 6)
        self.assertEqual({child["state"] for child in children}, {"completed"})
        self.assertEqual(len([child for child in children if child["parent"] == "r1"]), 3)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "attempt")))
        self.assertNotIn("run-token-1234", self.runner_log)

    def test_a_failing_script_gives_exit_code_reason_last_lines_and_its_outputs(self):
        script = "import os, sys\nopen('outputs/a','w').write('1')\nprint('last words')\nsys.exit(3)"
        self.assertEqual(self.execute(self.job(script)), 0)
        run = self.run_record
        self.assertEqual((run["state"], run["exitCode"], run["lastLines"]), ("failed", 3, ["last words"]))
        self.assertEqual(run["reason"], "The script ended with exit code 3.")
        self.assertIn("outputs/a", run["files"])

    def test_a_script_killed_by_a_signal_names_it(self):
        self.execute(self.job("import os\nos.kill(os.getpid(), 11)"))
        self.assertEqual(self.run_record["reason"], "The script was killed by the signal SIGSEGV.")
        self.assertEqual(self.run_record["exitCode"], 139)

    def test_a_missing_script_and_a_missing_python_fail_the_run_with_a_reason(self):
        self.execute(self.job("", configuration={"script": "other.py"}))
        self.assertIn("The script other.py is not in the snapshot.", self.run_record["reason"])
        job = self.job("", run="r2", environment={"kind": "user-managed", "interpreterPath": "python-of-nobody", "notices": []})
        self.start(job, "second").wait(60)
        self.assertIn("'python-of-nobody'", self.server.run("r2")["reason"])

    def test_cancelling_leaves_a_grace_period_in_which_outputs_still_arrive(self):
        script = """
import os, signal, sys, time
def end(*_):
    open("outputs/checkpoint", "w").write("saved")
    print("saving"); sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready")
time.sleep(60)
"""
        process = self.start(self.job(script))
        self.until(lambda: "ready" in self.server.log("r1"))
        self.run_record["cancel"] = True
        self.assertEqual(process.wait(60), 0)
        self.assertEqual(self.run_record["state"], "canceled")
        self.assertIn("outputs/checkpoint", self.run_record["files"])
        self.assertIn("saving", self.server.log("r1"))

    def test_a_time_limit_ends_a_script_that_ignores_being_asked(self):
        script = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on')\ntime.sleep(600)"
        self.execute(self.job(script, configuration={"graceSeconds": 0.5}, resources={"timeLimitSeconds": 1}))
        self.assertEqual(self.run_record["state"], "failed")
        self.assertEqual(self.run_record["reason"], "The script was ended after its time limit of 1 s.")

    def test_an_outage_while_the_script_runs_is_not_noticed_by_it(self):
        script = """
import time
from stellwerk._interactive import context
run = context()
print("begin", flush=True)
for i in range(30):
    run.journal.log("x", i, i); time.sleep(0.05)
print("end")
"""
        process = self.start(self.job(script))
        self.until(lambda: "begin" in self.server.log("r1"))
        self.server.stop()
        time.sleep(1.0)
        self.server.restart()
        self.assertEqual(process.wait(60), 0)
        self.assertEqual([entry[3] for entry in self.server.entries("r1") if entry[0] == "m"], list(range(30)))
        self.assertEqual(self.server.log("r1"), "begin\nend\n")

    def test_cut_connections_busy_answers_and_lost_answers_lose_and_double_nothing(self):
        often = ["cut", None, "lost", None, "busy", None, "cut half", None, None, "lost", None, "cut answer", None]
        seen = {}

        def fault(method, path):  # for each kind of request, the first of its own
            kind = method + path.split("/")[3] + path.rsplit("/", 1)[-1][:6]
            turn = seen[kind] = seen.get(kind, -1) + 1
            return often[turn] if turn < 4 else None

        self.server.fault = fault
        self.assertEqual(self.execute(self.job(LOGGING, secrets={"TOKEN": "hidden"})), 0)
        self.assertEqual([entry[3] for entry in self.server.entries("r1") if entry[0] == "m"], list(range(1000)))
        self.assertEqual(self.run_record["state"], "completed")
        self.assertEqual(len(self.server.runs), 7)
        self.assertEqual(self.server.log("r1").count("to stderr"), 1)

    def test_what_a_gone_server_did_not_take_is_recovered_later(self):
        process = self.start(self.job(LOGGING + "import time; time.sleep(1)", secrets={"TOKEN": "hidden"}), STELLWERK_DELIVERY_SECONDS="1")
        self.until(lambda: self.run_record["state"] == "running")
        self.server.stop()
        self.assertEqual(process.wait(60), 75)
        self.server.restart()
        recover = subprocess.run(
            [sys.executable, "-m", "stellwerk", "recover", process.place], env=dict(os.environ, PYTHONPATH=SOURCE), stderr=subprocess.PIPE
        )
        self.assertEqual(recover.returncode, 0, recover.stderr)
        self.assertEqual(self.run_record["state"], "completed")
        self.assertIn("outputs/mädel/a file.txt", self.run_record["files"])
        self.assertFalse(os.path.exists(process.place))

    def test_a_newer_attempt_ends_the_older_one_with_its_script(self):
        process = self.start(self.job("import os, time\nprint(os.getpid())\ntime.sleep(60)"))
        self.until(lambda: self.server.log("r1").strip().isdigit())
        pid = int(self.server.log("r1"))
        self.server.newest_attempt = 2
        self.assertEqual(process.wait(60), 3)
        self.assertFalse(self.alive(pid))

    def test_starting_twice_finds_the_first_and_the_runner_outlives_its_starter(self):
        job = json.dumps(self.job("import time; print('on'); time.sleep(0.5)")).encode()
        command = [sys.executable, "-m", "stellwerk.runner", "--start", "-", "--below", os.path.join(self.folder, "runs")]
        env = dict(os.environ, PYTHONPATH=SOURCE)
        first, second = (json.loads(subprocess.run(command, input=job, env=env, stdout=subprocess.PIPE, check=True).stdout) for _ in range(2))
        self.assertEqual(first, second)
        if os.path.exists(os.path.join(first["folder"], "job.json")):
            self.assertEqual(os.stat(os.path.join(first["folder"], "job.json")).st_mode & 0o777, 0o600)
        self.until(lambda: self.run_record["state"] == "completed")
        self.until(lambda: not os.path.exists(first["folder"]))
        self.assertEqual(self.server.log("r1"), "on\n")
        look = subprocess.check_output([sys.executable, "-m", "stellwerk.runner", "--look", first["folder"]], env=env)
        self.assertEqual(json.loads(look)["state"], "delivered")

    def test_a_run_that_a_script_started_here_ends_with_it_and_says_so(self):
        inner = self.job("import time; print('inner'); time.sleep(60)", run="inner")
        script = """
import json, os, sys, time
from stellwerk.runner.local import start_local
folder = start_local(json.loads(sys.argv[1]), sys.argv[2])
while not os.path.exists(folder + "/logs/output.txt") or not os.path.getsize(folder + "/logs/output.txt"): time.sleep(0.05)
"""
        self.execute(self.job(script, configuration={"arguments": [json.dumps(inner), os.path.join(self.folder, "inner")]}))
        self.assertEqual(self.run_record["state"], "completed")
        self.assertEqual((self.server.run("inner")["state"], self.server.log("inner")), ("failed", "inner\n"))
        self.assertIn("SIGTERM", self.server.run("inner")["reason"])

    def test_a_later_attempt_writes_on_where_the_log_of_the_earlier_ended(self):
        self.execute(self.job("open('checkpoints/a', 'w').write('there')\nprint('first')"))
        self.run_record["state"] = "queued"
        self.server.newest_attempt = 2
        second = "import os\nprint('second', os.environ['STELLWERK_ATTEMPT'], open(os.environ['STELLWERK_CHECKPOINTS'] + '/a').read())"
        self.start(self.job(second, attempt=2), "again").wait(60)
        self.assertEqual(self.server.log("r1"), "first\nsecond 2 there\n")

    def test_data_references_are_fetched_before_and_brought_back_after(self):
        self.server.datastore.update({"in/a.csv": b"1,2", "in/b/c.csv": b"3", "one.txt": b"single"})
        script = """
import os
folder, one, out = (os.environ["AZUREML_DATAREFERENCE_" + n] for n in ("folder", "one", "out"))
import sys
assert sys.argv[1] == folder
print(open(folder + "/b/c.csv").read(), open(one).read())
open(out + "/result.txt", "w").write("done")
"""
        references = {
            "folder": {"datastore": "default", "path": "in", "mode": "download"},
            "one": {"datastore": "default", "path": "one.txt", "mode": "download", "pathOnCompute": "here/single.txt"},
            "out": {"datastore": "default", "path": "results", "mode": "upload", "overwrite": False},
        }
        configuration = {"arguments": ["$AZUREML_DATAREFERENCE_folder"]}
        self.execute(self.job(script, dataReferences=references, configuration=configuration))
        self.assertEqual((self.run_record["state"], self.server.log("r1")), ("completed", "3 single\n"))
        self.assertEqual(self.server.datastore["results/result.txt"], b"done")

    def test_the_package_never_shadows_the_one_of_the_environment_and_secrets_stay_out_of_the_environment_of_others(self):
        files = {"stellwerk/__init__.py": b"mine = True"}
        self.execute(self.job("import stellwerk, os\nprint(stellwerk.mine, 'STELLWERK_TOKEN' in os.environ)", files), STELLWERK_TOKEN="x")
        self.assertEqual(self.server.log("r1"), "True False\n")

    def test_a_crash_leaves_no_memory_of_the_run_on_the_disk_unless_its_script_wants_that(self):
        script = "import resource\nprint(resource.getrlimit(resource.RLIMIT_CORE)[0])"
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_CORE, (soft, hard))
        self.execute(self.job(script))
        self.assertEqual(self.server.log("r1"), "0\n")

    def test_a_script_sees_the_gpus_that_it_was_given_and_no_others(self):
        script = "import os\nprint(repr(os.environ.get('CUDA_VISIBLE_DEVICES')))"
        for gpus, seen in ((["GPU-a", "GPU-b"], "'GPU-a,GPU-b'"), ([], "''")):
            run = "r%d" % len(gpus)
            self.execute(self.job(script, gpus=gpus, run=run), CUDA_VISIBLE_DEVICES="GPU-c")
            self.assertEqual(self.server.log(run), seen + "\n")

    def test_secrets_of_the_vault_are_files_for_the_script_alone_masked_and_gone_with_the_run(self):
        script = """
import os, stat
folder = os.environ["STELLWERK_SECRETS"]
print(sorted(os.listdir(folder)), oct(os.stat(folder).st_mode)[-3:], oct(os.stat(os.path.join(folder, "db-password")).st_mode)[-3:])
print("value", open(os.path.join(folder, "db-password")).read())
from stellwerk.core import Run
print(Run.get_context().get_secret("db-password") == open(os.path.join(folder, "db-password")).read())
print([name for name, value in os.environ.items() if "hush-hush" in value])
try:
    Run.get_context().get_secret("other")
except Exception as error:
    print(error)
"""
        process = self.execute(self.job(script, vaultSecrets={"db-password": "hush-hush\\n"}))
        lines = self.server.log("r1").splitlines()
        self.assertEqual(lines[0], "['db-password'] 700 600")
        self.assertEqual(lines[1], "value ***")
        self.assertEqual(lines[-3:-1], ["True", "[]"])
        self.assertIn("vault_secrets", lines[-1])
        self.assertFalse(os.path.exists(os.path.join(self.folder, "attempt")))

    def test_a_script_can_call_its_own_run_failed(self):
        self.execute(self.job("from stellwerk._interactive import context\ncontext().fail('not good enough')"))
        self.assertEqual((self.run_record["state"], self.run_record["reason"]), ("failed", "not good enough"))


SPREADING = """
import os, sys, time
def spread(name, clean):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open(name + ".part", "w") as file: file.write(str(os.getpid()))
            os.rename(name + ".part", name)
            argv = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"]
            os.execve(argv[0], argv, {} if clean else dict(os.environ))
        os._exit(0)
    os.wait()
os.makedirs("pids")
spread("pids/marked", False)
spread("pids/clean", True)

with open("pids/self", "w") as file: file.write(str(os.getpid()))
while not all(os.path.exists("pids/" + name) for name in ("marked", "clean")): time.sleep(0.01)
print("spread", flush=True)
"""


@unittest.skipUnless(sys.platform.startswith("linux"), "processes are found through /proc")
class TestProcesses(RunnerCase):
    def pids(self, process):
        found = {}
        for name in ("marked", "clean", "self"):
            with open(os.path.join(process.place, "work", "pids", name)) as file:
                found[name] = int(file.read())
        return found

    def start_spreading(self, end):
        process = self.start(self.job(SPREADING + end, configuration={"graceSeconds": 0.3}))
        self.until(lambda: "spread" in self.server.log("r1"))
        pids = self.pids(process)
        self.until(lambda: all(self.alive(pid) for pid in pids.values()) or "time" not in end)
        return process, pids

    def test_processes_that_left_the_session_are_gone_after_the_end(self):
        process, pids = self.start_spreading("time.sleep(1.0)")
        self.assertEqual(process.wait(60), 0)
        self.assertEqual([name for name, pid in pids.items() if self.alive(pid)], [])
        self.assertEqual(self.run_record["state"], "completed")

    def test_a_killed_runner_takes_all_processes_with_it(self):
        process, pids = self.start_spreading("time.sleep(300)")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        self.until(lambda: not any(self.alive(pid) for pid in pids.values()), 30)

    def test_a_killed_guard_fails_the_run_and_leaves_no_process(self):
        process, pids = self.start_spreading("time.sleep(300)")
        with open("/proc/%d/stat" % pids["self"]) as file:
            guard = int(file.read().rsplit(")", 1)[1].split()[1])
        os.kill(guard, signal.SIGKILL)
        self.assertEqual(process.wait(60), 0)
        self.assertEqual(self.run_record["state"], "failed")
        self.assertEqual([name for name, pid in pids.items() if self.alive(pid)], [])

    def test_a_kill_of_runner_and_guard_together_leaves_what_recovering_ends(self):
        process, pids = self.start_spreading("time.sleep(300)")
        with open("/proc/%d/stat" % pids["self"]) as file:
            guard = int(file.read().rsplit(")", 1)[1].split()[1])
        for pid in (process.pid, guard):
            os.kill(pid, signal.SIGSTOP)
        for pid in (process.pid, guard):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        self.until(lambda: not self.alive(pids["self"]), 30)
        self.assertTrue(self.alive(pids["marked"]))
        subprocess.run([sys.executable, "-m", "stellwerk", "recover", process.place], env=dict(os.environ, PYTHONPATH=SOURCE), check=True)
        self.until(lambda: not self.alive(pids["marked"]), 30)
        if self.alive(pids["clean"]):  # without a cgroup nothing tells whose it is
            os.kill(pids["clean"], signal.SIGKILL)

    def test_everything_works_from_a_wheel(self):
        wheel = os.path.join(self.folder, "stellwerk-1-py3-none-any.whl")
        with zipfile.ZipFile(wheel, "w") as archive:
            for place, _, names in os.walk(os.path.join(SOURCE, "stellwerk")):
                for name in names:
                    if name.endswith(".py"):
                        path = os.path.join(place, name)
                        archive.write(path, os.path.relpath(path, SOURCE))
        self.assertEqual(self.execute(self.job(LOGGING, secrets={"TOKEN": "hidden"}), PYTHONPATH=wheel), 0)
        self.assertEqual((self.run_record["state"], len(self.server.runs)), ("completed", 7))

    def test_recovering_after_a_kill_ships_what_was_logged_and_leaves_the_run_lost(self):
        process, _ = self.start_spreading(
            "from stellwerk._interactive import context\n"
            "context().journal.log('x', 1)\nopen('outputs/half','w').write('1')\ntime.sleep(300)"
        )
        self.until(lambda: os.path.exists(os.path.join(process.place, "work", "outputs", "half")))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.run_record["state"] = "lost"
        subprocess.run([sys.executable, "-m", "stellwerk", "recover", process.place], env=dict(os.environ, PYTHONPATH=SOURCE), check=True)
        self.assertEqual(self.run_record["state"], "lost")
        self.assertIn("outputs/half", self.run_record["files"])
        self.assertIn(["m", "x", 1], [entry[:3] for entry in self.server.entries("r1")])


if __name__ == "__main__":
    unittest.main()
