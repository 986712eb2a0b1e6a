"""Environments of runs: built by the real uv from PyPI, once, shared; failures that say what happened."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import unittest

from test_runner import SOURCE, RunnerCase

sys.path.insert(0, SOURCE)

from stellwerk.runner import pythons  # noqa: E402
from stellwerk.runner.environments import make_environment  # noqa: E402
from stellwerk.runner.programs import Cancelled, PreparationFailed, Programs  # noqa: E402

MINOR = "%d.%d" % sys.version_info[:2]
SIX = (
    "six==1.16.0 --hash=sha256:1e61c37477a1626458e36f7b1d82aa5c9b094fa4802892072e49de9c60c4c926"
    " --hash=sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254\n"
)


def plan(lock=SIX, key="six", **more):
    given = {
        "kind": "built", "key": key, "lockHash": "0", "lockText": lock, "pythonMinor": MINOR, "pythonFallback": False,
        "platform": "linux-x64", "needsStellwerk": True, "installFlags": ["--require-hashes"], "notices": [],
    }  # fmt: skip
    return dict(given, **more)


class TestEnvironments(RunnerCase):
    @classmethod
    def setUpClass(cls):
        cls.cache = tempfile.mkdtemp(prefix="stellwerk cache ")
        cls.addClassCleanup(shutil.rmtree, cls.cache)

    def make(self, given, cancelled=None, uv=None):
        told = []
        if uv:
            path = os.path.join(self.folder, "uv")
            with open(path, "w") as file:
                file.write("#!/bin/sh\n" + uv)
            os.chmod(path, stat.S_IRWXU)
            os.environ["STELLWERK_UV"] = path
            self.addCleanup(os.environ.pop, "STELLWERK_UV", None)
        programs = Programs(told.append, cancelled or threading.Event())
        private = os.path.join(self.folder, "private")
        os.makedirs(private, exist_ok=True)
        self.told = told
        return make_environment(given, {"environment": {}}, self.cache, self.folder, private, programs)

    def test_two_runs_at_once_build_an_environment_once_and_both_use_it(self):
        script = "import six, sys, os, stellwerk\nprint(six.__version__, sys.prefix == os.environ['VIRTUAL_ENV'])"
        runs = [self.job(script, run=run, environment=plan(), cacheFolder=self.cache) for run in ("r1", "r2")]
        processes = [self.start(job, job["run"]) for job in runs]
        for process in processes:
            self.assertEqual(process.wait(100), 0)
        for run in ("r1", "r2"):
            self.assertEqual(self.server.log(run), "1.16.0 True\n", self.server.run(run))
        built = ["The environment was built" in self.server.log(run, "preparation.txt") for run in ("r1", "r2")]
        self.assertEqual(sorted(built), [False, True])

    def test_what_cannot_be_installed_fails_the_run_with_what_uv_said_and_is_made_anew_next_time(self):
        wrong = plan("six==1.16.0 --hash=sha256:" + "0" * 64 + "\n", "wrong")
        self.assertEqual(self.execute(self.job("", environment=wrong, cacheFolder=self.cache)), 0)
        self.assertEqual(self.run_record["state"], "failed")
        self.assertIn("It was not possible to install the packages of the environment", self.run_record["reason"])
        self.assertIn("six", "".join(self.run_record["lastLines"]))
        self.assertEqual(self.make(plan(key="wrong")).version, ".".join(map(str, sys.version_info[:3])))

    def test_cancelling_ends_the_building(self):
        cancelled = threading.Event()
        threading.Timer(0.5, cancelled.set).start()
        with self.assertRaises(Cancelled):
            self.make(plan(key="never"), cancelled, "trap '' TERM; echo begin; sleep 60 & wait; sleep 60")
        self.assertEqual(self.told, ["begin"])

    def test_a_python_that_is_not_there_is_an_error_that_lists_those_found(self):
        with self.assertRaisesRegex(PreparationFailed, r"Python 3\.99 is not on this machine; there are .*%s" % MINOR.replace(".", r"\.")):
            self.make(plan(pythonMinor="3.99"))
        self.assertEqual(pythons.nearest_newer("3.5", {"3.11": "", "3.9": "", "3.4": ""}), "3.9")
        self.assertIsNone(pythons.nearest_newer("3.12", {"3.11": ""}))

    def test_conda_packages_need_a_conda(self):
        path = os.environ["PATH"]
        os.environ["PATH"] = "/usr/bin:/bin"
        self.addCleanup(os.environ.__setitem__, "PATH", path)
        with self.assertRaisesRegex(PreparationFailed, "none of conda, mamba and micromamba"):
            self.make(plan(key="conda", conda={"channels": ["conda-forge"], "packages": ["python"]}), uv="exit 0")

    def test_conda_packages_are_installed_by_the_conda_that_is_there_and_the_rest_by_uv(self):
        tools = os.path.join(self.folder, "tools")
        os.makedirs(tools)
        path = os.path.join(tools, "micromamba")
        with open(path, "w") as file:  # does what conda does as far as we need it: makes a prefix with a Python
            file.write('#!/bin/sh\necho "conda $*"\nwhile [ "$1" != --prefix ]; do shift; done\nexec %s -m venv --without-pip "$2"\n' % sys.executable)
        os.chmod(path, stat.S_IRWXU)
        before = os.environ["PATH"]
        os.environ["PATH"] = tools + os.pathsep + before
        self.addCleanup(os.environ.__setitem__, "PATH", before)
        conda = {"channels": ["conda-forge", "defaults"], "packages": ["python=%s" % MINOR, "libx>=2"]}
        made = self.make(plan(key="with-conda", conda=conda))
        wanted = "--override-channels --channel conda-forge --channel defaults python=%s libx>=2" % MINOR
        self.assertIn(wanted, self.told[0] if self.told[0].startswith("conda") else "".join(self.told))
        self.assertEqual(subprocess.check_output([made.python, "-c", "import six; print(six.__version__)"]), b"1.16.0\n")

    def test_credentials_of_an_index_lie_in_private_files_and_are_not_shown(self):
        uv = 'echo "index $UV_DEFAULT_INDEX"; stat -c %a "$NETRC"; exit 1\n'
        path = os.path.join(self.folder, "failing-uv")
        with open(path, "w") as file:
            file.write("#!/bin/sh\n" + uv)
        os.chmod(path, stat.S_IRWXU)
        indexes = {"environment": {"UV_DEFAULT_INDEX": "https://me:hunter22@index.example.org/simple"}, "netrc": "machine x login me password sesame1\n"}
        job = self.job("", environment=plan(key="private"), indexes=indexes, cacheFolder=self.cache)
        self.execute(job, STELLWERK_UV=path)
        log = self.server.log("r1", "preparation.txt")
        self.assertIn("index https://me:***@index.example.org/simple", log)
        self.assertIn("600", log)
        for secret in ("hunter22", "sesame1"):
            self.assertNotIn(secret, log + str(self.run_record["reports"]))

    def test_credentials_of_an_index_are_gone_when_the_script_starts(self):
        script = "import os\nplace = os.path.dirname(os.getcwd())\nprint('hunter22' in open(place + '/job.json').read(), os.path.exists(place + '/private'))"
        indexes = {"environment": {"UV_INDEX": "https://me:hunter22@index.example.org/simple"}, "netrc": "machine x login me password y\n"}
        self.execute(self.job(script, indexes=indexes))
        self.assertEqual(self.server.log("r1"), "False False\n")

    def test_a_machine_is_described_as_the_contract_wants_it(self):
        answer = subprocess.check_output([sys.executable, "-m", "stellwerk.runner", "--machine"], env=dict(os.environ, PYTHONPATH=SOURCE))
        self.assertIn(('"%s"' % MINOR).encode(), answer)


del RunnerCase

if __name__ == "__main__":
    unittest.main()
