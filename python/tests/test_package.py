"""The package as it is shipped: for which Pythons, with what in it, the same bytes every time."""

import os
import subprocess
import sys
import tempfile
import unittest
import zipfile

import vendored  # noqa: F401
from build_wheel import SOURCES, build_wheel, pinned

VERMIN = ("vermin==1.9.2", "sha256:3e3e95d937f7d165eb928e0c268dfec466ccc40e9e1ce825e5d6e5aa027b6f30")


class PackageTest(unittest.TestCase):
    def run_python(self, *arguments, path):
        env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        done = subprocess.run(
            [sys.executable, *arguments], env=dict(env, PYTHONPATH=path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        return done.returncode, done.stdout.decode()

    def test_it_runs_on_python_3_8_and_later(self):
        options = ["-t=3.8-", "--no-tips", "--violations", "--no-parse-comments"]
        code, output = self.run_python("-c", "import vermin; vermin.main()", *options, SOURCES, path=pinned(*VERMIN))
        self.assertEqual(0, code, output)

    def test_its_wheel_is_the_same_every_time_and_needs_nothing(self):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            paths = [os.path.join(folder, build_wheel(folder)) for folder in (one, other)]
            contents = []
            for path in paths:
                with open(path, "rb") as file:
                    contents.append(file.read())
            self.assertEqual(contents[0], contents[1])
            with zipfile.ZipFile(paths[0]) as wheel:
                names = wheel.namelist()
                metadata = wheel.read(next(name for name in names if name.endswith("METADATA"))).decode()
            self.assertNotIn("Requires-Dist", metadata)
            self.assertIn("stellwerk/_vendor/yaml/LICENSE", names)
            self.assertEqual([], [name for name in names if "__pycache__" in name or name.endswith(".so")])
            program = "import stellwerk.core, stellwerk._yaml as y; print(y.load(y.dump({'a': [1, 'no']})), y.module().__name__)"
            code, output = self.run_python("-I", "-c", "import sys; sys.path.insert(0, %r)\n%s" % (paths[0], program), path="")
            self.assertEqual((0, "{'a': [1, 'no']} stellwerk._vendor.yaml\n"), (code, output))


if __name__ == "__main__":
    unittest.main()
