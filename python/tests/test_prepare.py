"""Environments made for runs of other Unix ids: complete, readable, and made without executing what packages bring."""

import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest
import zipfile

from test_runner import SOURCE

MINOR = "%d.%d" % sys.version_info[:2]


def wheel(folder, name, files):
    """A wheel of these files. Returns its line in a lock."""
    about = "%s-1.0.dist-info/" % name
    files = dict(files)
    files[about + "METADATA"] = "Metadata-Version: 2.1\nName: %s\nVersion: 1.0\n" % name
    files[about + "WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    path = os.path.join(folder, name + "-1.0-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in files.items():
            entry = zipfile.ZipInfo(place)
            entry.external_attr = (stat.S_IFREG | 0o6777) << 16
            archive.writestr(entry, text)
        digest = lambda text: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()  # noqa: E731
        record = ["%s,sha256=%s,%d" % (place, digest(text), len(text)) for place, text in files.items()]
        archive.writestr(about + "RECORD", "\n".join([*record, about + "RECORD,,", ""]))
    return "%s==1.0 --hash=sha256:%s\n" % (name, _digest(path))


BACKEND = """
import os, zipfile
try:
    open(%r, "w")
except OSError:
    pass

def build_wheel(directory, settings=None, metadata=None):
    about, name = "%s-1.0.dist-info/", "%s-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("%s.py", "seen = %%r" %% sorted(os.environ))
        wheel.writestr(about + "METADATA", "Metadata-Version: 2.1\\nName: %s\\nVersion: 1.0\\n")
        wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(about + "RECORD", "%s.py,,\\n" + about + "METADATA,,\\n" + about + "WHEEL,,\\n" + about + "RECORD,,\\n")
    return name
"""


def source(folder, name, trace):
    """A source distribution that leaves a trace where it can, and tells the variables that it saw. Returns its line in a lock."""
    path = os.path.join(folder, name + "-1.0.zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("%s-1.0/backend.py" % name, BACKEND % (trace, *[name] * 5))
        archive.writestr("%s-1.0/pyproject.toml" % name, '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n')
        archive.writestr("%s-1.0/PKG-INFO" % name, "Metadata-Version: 2.1\nName: %s\nVersion: 1.0\n" % name)
    return "%s==1.0 --hash=sha256:%s\n" % (name, _digest(path))


def _namespaces():
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    return subprocess.run(["unshare", *user, "--mount", "--pid", "--net", "--fork", "true"], stderr=subprocess.DEVNULL).returncode == 0


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class TestPrepare(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cache = tempfile.mkdtemp(prefix="stellwerk cache ")
        cls.addClassCleanup(shutil.rmtree, cls.cache)

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="stellwerk-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.place = os.path.join(self.folder, "preparation")
        self.trace = os.path.join(self.folder, "was executed")

    def prepare(self, key, lock, indexes=None, path=os.environ["PATH"]):
        plan = {
            "kind": "built", "key": key, "lockHash": "0", "lockText": lock, "pythonMinor": MINOR, "pythonFallback": False,
            "platform": "linux-x64", "needsStellwerk": False, "installFlags": ["--require-hashes", "--no-deps"], "notices": [],
        }  # fmt: skip
        environment = {"UV_FIND_LINKS": self.folder, "UV_NO_INDEX": "1"} if lock else {}
        job = {"environment": plan, "indexes": indexes or {"environment": environment}, "cacheFolder": self.cache}
        os.makedirs(self.place)
        with open(os.path.join(self.place, "job.json"), "w") as file:
            json.dump(job, file)
        ended = subprocess.run(
            [sys.executable, "-m", "stellwerk.runner", "--prepare", self.place], env=dict(os.environ, PYTHONPATH=SOURCE, PATH=path),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300,
        )  # fmt: skip
        self.told, self.reason = ended.stdout.decode(), ended.stderr.decode().strip()
        self.assertFalse(os.path.exists(os.path.join(self.place, "private")))
        return ended.returncode

    def test_nothing_that_a_package_brings_is_executed(self):
        self.assertEqual(self.prepare("empty", ""), 0, self.reason)  # puts uv there
        shutil.rmtree(self.place)
        trap = "import os; open(%r, 'a').write('x')\n" % self.trace
        broken = {"trap/__init__.py": "", "trap/broken.py": "def it(:\n", "trap.pth": trap, "sitecustomize.py": trap}
        lock = wheel(self.folder, "trap", broken)
        self.assertEqual(self.prepare("trap", lock), 0, self.reason)
        self.assertFalse(os.path.exists(self.trace))
        python = os.path.join(self.cache, "environments", "trap", "bin", "python")
        subprocess.run([python, "-c", "import trap"], check=True)
        self.assertTrue(os.path.exists(self.trace), "a trap that does not work proves nothing")

    def test_what_is_made_is_read_by_all_and_changed_by_its_owner_alone_and_the_rest_is_closed(self):
        files = {"modes/__init__.py": "x = 1\n", "modes/tests/test_it.py": "x = 1\n"}
        self.assertEqual(self.prepare("modes", wheel(self.folder, "modes", files)), 0, self.reason)
        modes = {}
        for folder, _, files in os.walk(os.path.join(self.cache, "environments", "modes")):
            for name in [".", *files]:
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    modes[path] = stat.S_IMODE(os.stat(path).st_mode)
        self.assertEqual(len([path for path in modes if os.sep + "modes" + os.sep in path.split("site-packages")[-1] and path.endswith(".pyc")]), 1)
        self.assertIn("test_it.py", {os.path.basename(path) for path in modes})
        for path, mode in modes.items():
            self.assertEqual((mode & 0o044, mode & 0o022, mode & 0o6000), (0o044, 0, 0), "%s %o" % (path, mode))
        for name in os.listdir(self.cache):
            mode = stat.S_IMODE(os.stat(os.path.join(self.cache, name)).st_mode)
            self.assertEqual(mode & 0o077, 0o011 if name == "environments" else 0, name)

    @unittest.skipUnless(_namespaces(), "this machine refuses namespaces")
    def test_a_package_without_a_wheel_is_built_where_it_sees_nothing_of_the_machine(self):
        lock = source(self.folder, "sourceonly", self.trace)
        self.assertEqual(self.prepare("boxed", lock), 0, self.reason + self.told)
        self.assertFalse(os.path.exists(self.trace))
        python = os.path.join(self.cache, "environments", "boxed", "bin", "python")
        seen = subprocess.run([python, "-c", "import sourceonly; print(*sourceonly.seen)"], stdout=subprocess.PIPE, check=True).stdout.decode().split()
        self.assertIn("PATH", seen)
        self.assertEqual([name for name in seen if name.startswith(("UV_", "PIP_", "STELLWERK_"))], [])
        with open(os.path.join(self.cache, "environments", "boxed", "pyvenv.cfg")) as file:
            self.assertNotIn("boxed/bin", file.read(), "the environment itself has nothing of the box")

    def test_a_package_that_would_have_to_be_built_is_left_to_the_run_where_namespaces_are_refused(self):
        refusing = os.path.join(self.folder, "refusing")
        os.makedirs(refusing)
        with open(os.path.join(refusing, "unshare"), "w") as file:
            file.write("#!/bin/sh\nexit 1\n")
        os.chmod(os.path.join(refusing, "unshare"), 0o755)
        lock = source(self.folder, "refused", self.trace)
        self.assertEqual(self.prepare("source", lock, path=refusing + os.pathsep + os.environ["PATH"]), 3, self.reason)
        self.assertFalse(os.path.exists(self.trace))

    def test_what_fails_says_why_without_credentials(self):
        address = "http://me:hunter22@127.0.0.1:9/simple"
        lock = "missing==1.0 --hash=sha256:%s\n" % ("0" * 64)
        self.assertEqual(self.prepare("missing", lock, {"environment": {"UV_DEFAULT_INDEX": address}, "netrc": "machine x login me password sesame1\n"}), 1)
        self.assertIn("It was not possible to", self.reason)
        for secret in ("hunter22", "sesame1"):
            self.assertNotIn(secret, self.told + self.reason)


if __name__ == "__main__":
    unittest.main()
