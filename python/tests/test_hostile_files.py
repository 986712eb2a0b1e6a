"""YAML files that somebody damaged: what comes of them is a value or an error of ours, never anything else, and never without end."""

import io
import os
import random
import sys
import tempfile
import unittest
from contextlib import redirect_stderr

import vendored  # noqa: F401
from stellwerk import _yaml
from stellwerk._transport import StellwerkError
from stellwerk.core import CondaDependencies, RunConfiguration

OURS = """script: train.py
arguments: [--alpha, 0.5, true, 'a b']
target: host
framework: MPI
resources: {nodes: 2, memory: 16GB}
environment:
  name: e
  python: "3.11"
  conda:
    channels: [conda-forge]
    dependencies:
      - numpy>=1.26
      - pip: [scikit-learn==1.5]
environmentVariables:
  A: |
    two
    lines
dataReferences:
  d: {datastore: store, path: a/b, mode: upload, pathOnCompute: out, overwrite: true}
graceSeconds: 1.5
secrets: [API_KEY]
"""
THEIRS = """script: train.py
arguments: [--a, 1]
target: local
framework: Python
communicator: IntelMpi
nodeCount: 2
maxRunDurationSeconds: 60
history: {outputCollection: true}
environment:
  name: e
  docker: {enabled: false}
  environmentVariables: {A: 1}
  python:
    userManagedDependencies: false
    interpreterPath: python
    condaDependencies: {dependencies: [numpy, {pip: [six]}]}
dataReferences:
  d: {dataStoreName: store, mode: mount, pathOnDataStore: x, pathOnCompute: null, overwrite: false}
"""
CONDA = """name: project
channels:
  - conda-forge
dependencies:
  - python=3.11
  - numpy>=1.26,<3
  - pip:
      - scikit-learn==1.5
      - --index-url https://example.org/simple
prefix: /somewhere
"""
TOKENS = ["", "\0", "\n", "\r", "\t", " ", "\x85", "\u2028", "\ufeff", "\U0001f600", '"', "'", "\\", "%", "__class__"]
TOKENS += ["!!python/object/apply:os.system [id]", "!!binary x", "!!map x", "!a ", "&a [*a]", "*a", "<<: *a", "? ", "- ", ": "]
TOKENS += ["#", " #", "|", ">", "{", "}", "[", "]", ",", "---\n", "...\n", "%YAML 9.9\n", "@", "`", "=", "1e999", "-1", "0x", "0o8"]
TOKENS += [".inf", "-.inf", ".nan", "null", "~", "true", "3.10", "9" * 30, "9" * 5_000, "1" + "0" * 400 + "e5", "a: b", "a:\n"]


def mutated(chance, text):
    """Damaged in up to six places, in the ways that break parsers."""
    for _ in range(chance.randrange(1, 7)):
        at, length, token = chance.randrange(len(text) + 1), chance.randrange(41), chance.choice(TOKENS)
        times = chance.randrange(6) if chance.random() < 0.95 else chance.choice((100, 3_000))
        text = chance.choice(
            (
                lambda: text[:at] + token + text[at:],
                lambda: text[:at] + text[at + length :],
                lambda: text[: at + length] + text[at:],
                lambda: text[:at] + token + text[at + length :],
                lambda: text[:at] + (token[:8] or " ") * times + text[at:],
                lambda: text[:at] + text[at : at + min(length, 8)] * times + text[at:],
                lambda: text[:at],
            )
        )()
    return text


def with_one_value_of(chance, value):
    """The same data, of which one value anywhere is of another kind."""
    if isinstance(value, (dict, list)) and value and chance.random() < 0.85:
        made = value.copy()
        key = chance.choice(list(made) if isinstance(made, dict) else range(len(made)))
        made[key] = with_one_value_of(chance, made[key])
        return made
    return chance.choice((None, True, 7, -0.5, float("inf"), "", "text", "3.1", [], {}, [None], [[]], {"": None}, {"pip": 7}, "x" * 999))


class HostileFilesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = os.path.join(folder.name, "x.runconfig")

    def read(self, text, make):
        """What is made of a file with that text; None for a refusal."""
        with open(self.file, "w", encoding="utf-8", newline="", errors="surrogatepass") as file:
            file.write(text)
        try:
            with redirect_stderr(io.StringIO()):
                return make(self.file)
        except StellwerkError as error:
            self.assertLess(len(str(error)), 10_000)
            return None
        except Exception:
            sys.stderr.write("%.3000r\n" % text)
            raise

    def reads_configuration(self, text):
        made = self.read(text, lambda path: RunConfiguration.load(path).configuration())
        if made is not None:
            self.assertIsInstance(made, dict)
        return made

    def test_a_run_configuration_whatever_became_of_its_text_is_read_or_refused(self):
        chance = random.Random(4)
        outcomes = [self.reads_configuration(mutated(chance, chance.choice((OURS, THEIRS)))) for _ in range(500)]
        self.assertIn(None, outcomes)
        self.assertTrue(any(outcomes))

    def test_a_run_configuration_whatever_became_of_its_values_is_read_or_refused(self):
        chance = random.Random(5)
        for _ in range(400):
            self.reads_configuration(_yaml.dump(with_one_value_of(chance, _yaml.load(chance.choice((OURS, THEIRS))))))

    def test_a_conda_file_whatever_became_of_it_is_read_or_refused(self):
        chance = random.Random(6)
        for _ in range(400):
            damaged = mutated(chance, CONDA)
            if chance.random() < 0.5:
                damaged = _yaml.dump(with_one_value_of(chance, _yaml.load(CONDA)))
            made = self.read(damaged, CondaDependencies)
            if made is not None:
                for listed in (made.conda_channels, made.conda_packages, made.pip_packages, made.pip_options):
                    self.assertTrue(all(isinstance(one, str) for one in listed), damaged)
                made.get_python_version()

    def test_what_is_of_another_kind_is_refused_with_its_line(self):
        for text, words in (
            ("script: a.py\nenvironment:\n  userManaged: maybe\n", "line 3: userManaged must be true or false"),
            ("script: a.py\nenvironment:\n  conda: [numpy]\n", "line 3: conda must be a mapping"),
            ("script: a.py\nenvironment:\n  requirements:\n    - 1\n", "line 4: requirements must be a list of text"),
            ("script: a.py\nsecrets:\n  - 1\n", "line 3: secrets must be a list of text"),
            ("script: a.py\ndataReferences:\n  d:\n    mode: 1\n", "line 4: mode must be text"),
            ("script: a.py\nhistory: {}\nenvironment:\n  python: x\n  docker: {}\n", "line 4: environment.python must be a mapping"),
            ("script: a.py\nhistory: {}\ndataReferences: [x]\n", "line 3: dataReferences must be a mapping"),
            ("script: a.py\nhistory: {}\nenvironment:\n  environmentVariables: 1\n", "line 4: environment.environmentVariables"),
            ("script: a.py\ngraceSeconds: %s\n" % ("9" * 5_000), "more than 1000 digits at line 2"),
        ):
            with open(self.file, "w", encoding="utf-8") as file:
                file.write(text)
            with self.assertRaisesRegex(StellwerkError, words):
                RunConfiguration.load(self.file)

    def test_bytes_that_are_no_text_are_refused(self):
        chance = random.Random(7)
        whole = OURS.encode("utf-8")
        for _ in range(300):
            content = bytearray(whole)
            for _ in range(chance.randrange(1, 5)):
                content[chance.randrange(len(content))] = chance.randrange(256)
            with open(self.file, "wb") as file:
                file.write(content)
            try:
                with redirect_stderr(io.StringIO()):
                    RunConfiguration.load(self.file)
            except StellwerkError:
                pass

    def test_what_is_written_without_end_is_read_or_refused(self):
        for part in (" ", "\t", "#", "- ", "[", "{", "&a ", "*a ", ": ", "? ", "a: [", "'", "|\n", "!a ", "---\n", "\\", "9"):
            for text in ("script: " + part * 20_000, part * 20_000, "script: a.py\ngraceSeconds: 1" + part * 20_000):
                self.reads_configuration(text)


if __name__ == "__main__":
    unittest.main()
