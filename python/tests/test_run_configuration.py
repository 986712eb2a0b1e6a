"""Run configurations: saved and loaded without loss, refused with a line, and read from Azure ML's layout."""

import io
import os
import random
import string
import tempfile
import unittest
from contextlib import redirect_stderr

import vendored  # noqa: F401
from stellwerk import _yaml
from stellwerk.core import CondaDependencies, Environment, RunConfiguration, ScriptRunConfig
from stellwerk.core.datastore import DataReference
from stellwerk.core.exceptions import RunConfigurationException, UserErrorException
from stellwerk.core.runconfig import DataReferenceConfiguration, MpiConfiguration

# Texts that YAML could take for something else.
TRICKY = [
    "",
    " ",
    "yes",
    "no",
    "on",
    "null",
    "~",
    "true",
    "1",
    "01",
    "0o17",
    "0x1F",
    "1e3",
    "1_000",
    "12:30:45",
    ".inf",
    "-",
    "- a",
    "a: b",
]
TRICKY += [
    "#",
    "a #b",
    "'",
    '"',
    "\\",
    "é ü 漢字 😀",
    "line\nline",
    "crlf\r\nline",
    "\ttab",
    "&a",
    "*a",
    "!tag",
    "%x",
    "@x",
    "`x`",
    "{a}",
    "[a]",
    "2026-11-23",
    "<<",
    "=",
    ".",
]


def some_text(chance):
    if chance.random() < 0.5:
        return chance.choice(TRICKY)
    return "".join(chance.choice(string.printable[:95] + "äß漢") for _ in range(chance.randrange(12)))


def some_name(chance):
    return chance.choice(string.ascii_letters + "_") + "".join(
        chance.choice(string.ascii_letters + string.digits + "_") for _ in range(chance.randrange(8))
    )


def some_scalar(chance):
    kinds = [
        lambda: some_text(chance),
        lambda: chance.randrange(-(10**6), 10**6),
        lambda: chance.uniform(-1e6, 1e6),
        lambda: chance.random() < 0.5,
    ]
    kinds += [lambda: 10.0 ** chance.randrange(-300, 300), lambda: float(chance.randrange(100))]
    return chance.choice(kinds)()


def some_data(chance, depth=0):
    if depth < 3 and chance.random() < 0.5:
        if chance.random() < 0.5:
            return [some_data(chance, depth + 1) for _ in range(chance.randrange(4))]
        return {some_text(chance): some_data(chance, depth + 1) for _ in range(chance.randrange(4))}
    return None if chance.random() < 0.1 else some_scalar(chance)


def some_conda(chance):
    packages = [some_name(chance) + chance.choice(["", "=1.0", ">=2,<3"]) for _ in range(chance.randrange(4))]
    pip = [some_name(chance) + chance.choice(["", "==1.2.3"]) for _ in range(chance.randrange(3))]
    made = {"name": some_text(chance), "channels": [some_name(chance)], "dependencies": [*packages, {"pip": pip}]}
    if chance.random() < 0.3:
        made["prefix"] = some_text(chance)
    return made


def some_environment(chance):
    kind = chance.randrange(7)
    if kind == 0:
        return {}
    if kind == 1:
        return {"userManaged": True, "interpreterPath": "/usr/bin/python3"}
    made = {2: {"condaFile": "env.yml"}, 3: {"conda": some_conda(chance)}, 4: {"requirements": [some_text(chance)]}}.get(kind)
    made = made or {5: {"requirementsFile": "requirements.txt"}, 6: {"lockFile": "lock.txt", "pythonFallback": True}}[kind]
    return dict(made, name="n", python=chance.choice(["3.9", "3.10", "3.11"]))


def some_configuration(chance):
    made = {"script": "train me.py"}
    if chance.random() < 0.8:
        made["arguments"] = [some_scalar(chance) for _ in range(chance.randrange(1, 5))]
    if chance.random() < 0.5:
        made.update(target="host", framework="MPI", resources={"nodes": chance.randrange(2, 9)})
    if chance.random() < 0.5:
        made["environmentVariables"] = {some_name(chance): some_text(chance) for _ in range(chance.randrange(1, 4))}
    made["environment"] = some_environment(chance)
    if chance.random() < 0.5:
        reference = {"datastore": "store", "path": "a/b c", "mode": "upload", "pathOnCompute": "out", "overwrite": True}
        made["dataReferences"] = {some_name(chance): {key: reference[key] for key in reference if chance.random() < 0.7}}
    if chance.random() < 0.5:
        made.setdefault("resources", {}).update(chance.choice([{"timeLimit": 60}, {"timeLimit": "2h30m", "memory": "16GB"}, {"cpus": 4, "gpus": 1, "gpuType": "A100"}]))
        made.update(priority=chance.choice(["low", "high"]), graceSeconds=chance.choice([0, 20, 1.5]), secrets=["API_KEY"])
    return {key: value for key, value in made.items() if value != {}}


def typed(value):
    """A value with its types, since 1 == 1.0 == True."""
    if isinstance(value, dict):
        return {key: typed(one) for key, one in value.items()}
    return [typed(one) for one in value] if isinstance(value, list) else (type(value).__name__, value)


class YamlTest(unittest.TestCase):
    def test_what_is_dumped_is_loaded_again_with_its_types(self):
        chance = random.Random(1)
        for _ in range(500):
            value = some_data(chance)
            self.assertEqual(typed(value), typed(_yaml.load(_yaml.dump(value))), repr(value))

    def test_plain_words_mean_what_they_mean_in_yaml_1_2(self):
        loaded = _yaml.load("[on, no, 12:30:45, 2026-11-23, 0o17, 1e3, 010, true, ~, .5, 0x1F]")
        self.assertEqual(["on", "no", "12:30:45", "2026-11-23", 15, 1000.0, 10, True, None, 0.5, 31], loaded)

    def test_errors_name_file_and_line(self):
        for text, words in (
            ("a: 1\nb: [", "line 2"),
            ("a: 1\na: 2\n", "twice: again at line 2"),
            ("? [a]\n: 1", "line 1"),
            ("\x00", "not valid"),
        ):
            with self.assertRaisesRegex(_yaml.YamlError, "x.yml.*%s" % words):
                _yaml.load(text, "x.yml")

    def test_what_would_swell_or_never_end_is_refused(self):
        bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        bomb += "".join("a%d: &a%d [%s]\n" % (n, n, ", ".join(["*a%d" % (n - 1)] * 9)) for n in range(1, 12))
        small = "".join(bomb.splitlines(True)[:6])  # of 600,000 values only
        for text in (small, bomb, "&a [*a]", "[" * 50_000):
            with self.assertRaisesRegex(_yaml.YamlError, "too much|too deeply"):
                _yaml.load(text)

    def test_tags_make_no_objects(self):
        self.assertEqual(["id"], _yaml.load("!!python/object/apply:os.system [id]"))


class RunConfigurationTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="stellwerk test ü ")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, text, name="x.runconfig"):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        return path

    def load(self, text):
        told = io.StringIO()
        with redirect_stderr(told):
            made = RunConfiguration.load(self.write(text))
        return made, told.getvalue()

    def test_saved_and_loaded_without_loss(self):
        chance = random.Random(2)
        for _ in range(300):
            configuration = some_configuration(chance)
            made = RunConfiguration.of_configuration(configuration)
            again = RunConfiguration.load(made.save(self.folder, "x"))
            self.assertEqual(typed(made.configuration()), typed(again.configuration()))
            for key, value in configuration.items():
                if key == "dataReferences":
                    continue  # defaults are left out
                self.assertEqual(typed(value), typed(again.configuration()[key]), key)

    def test_unknown_keys_are_refused_with_their_line(self):
        cases = {
            "script: a.py\nscirpt: b.py\n": "line 2: the key 'scirpt'",
            "script: a.py\nenvironment:\n  condaFile: x.yml\n  condafile: y\n": "line 4: the key 'condafile'",
            "script: a.py\ndataReferences:\n  d:\n    path: x\n    pth: y\n": "line 5: the key 'pth'",
            "script: a.py\r\nnope: 1\r\n": "line 2: the key 'nope'",
        }
        for text, words in cases.items():
            with self.assertRaisesRegex(RunConfigurationException, words):
                self.load(text)

    def test_values_of_another_type_are_refused_with_their_line(self):
        cases = {
            "script: a.py\nresources:\n  nodes: many\n": "line 3: nodes must be a whole number",
            "script: a.py\narguments: --x\n": "line 2: arguments must be a list",
            "script: a.py\nenvironmentVariables:\n  A: 1\n": "line 3: .*in quotes",
            "script: a.py\nenvironment:\n  python: 3.10\n": "line 3: python must be a minor version in quotes",
        }
        for text, words in cases.items():
            with self.assertRaisesRegex(RunConfigurationException, words):
                self.load(text)

    def test_reads_the_layout_of_azure_ml_and_says_what_it_left_out(self):
        made, told = self.load(
            "script: train.py\narguments: [--a, 1]\ntarget: local\nframework: Python\ncommunicator: IntelMpi\n"
            "nodeCount: 2\nmpi: {processCountPerNode: 4}\nmaxRunDurationSeconds: 60\nautoPrepareEnvironment: true\nhistory:\n  outputCollection: true\n"
            "environment:\n  name: e\n  docker: {enabled: false}\n  environmentVariables: {A: 1}\n  python:\n"
            "    userManagedDependencies: false\n    interpreterPath: python\n    condaDependenciesFile: env.yml\n"
            "dataReferences:\n  d: {dataStoreName: store, mode: mount, pathOnDataStore: x, pathOnCompute: null, overwrite: false}\n"
        )
        expected = {
            "script": "train.py",
            "arguments": ["--a", 1],
            "framework": "MPI",
            "mpi": {"processesPerNode": 4},
            "resources": {"nodes": 2, "timeLimit": 60},
            "environmentVariables": {"A": "1"},
            "environment": {"name": "e", "condaFile": "env.yml"},
            "dataReferences": {"d": {"datastore": "store", "path": "x"}},
        }
        self.assertEqual(expected, made.configuration())
        for word in ("history", "autoPrepareEnvironment", "environment.docker", "downloaded, not mounted"):
            self.assertIn(word, told)

    def test_ranks_on_each_node_and_a_warning_are_kept(self):
        made = RunConfiguration("a.py", framework="MPI")
        made.mpi = MpiConfiguration(process_count_per_node=2, node_count=3)
        made.warning = {"seconds": 30}
        asked = made.configuration()
        self.assertEqual((asked["mpi"], asked["resources"], asked["warning"]), ({"processesPerNode": 2}, {"nodes": 3}, {"seconds": 30}))
        self.assertEqual(RunConfiguration.of_configuration(asked), made)
        made.framework = "Python"
        self.assertNotIn("mpi", made.configuration())
        self.assertEqual(self.load("script: a.py\nframework: MPI\nmpi:\n  processesPerNode: 2\n")[0].mpi.process_count_per_node, 2)

    def test_a_container_is_asked_for_in_our_words_and_in_those_of_before(self):
        made = RunConfiguration("a.py")
        made.environment.docker.base_image = "base:1"
        self.assertNotIn("container", made.configuration())
        made.environment.docker.enabled = True
        registry = made.environment.docker.base_image_registry
        registry.address, registry.username, registry.password = "registry.example", "the-user", "the-password"
        made.container_instance.cpu_cores, made.container_instance.memory_gb = 2, 1.5
        container = {"image": "registry.example/base:1", "user": "the-user", "password": "the-password"}
        self.assertEqual(made.configuration()["container"], container)
        self.assertEqual(made.configuration()["resources"], {"cpus": 2, "memory": "1.5GB"})
        made.resources.cpus = 3
        self.assertEqual(made.configuration()["resources"], {"cpus": 3, "memory": "1.5GB"})
        self.assertEqual(RunConfiguration.of_configuration(made.configuration()), made)
        loaded, told = self.load(
            "script: a.py\nframework: Python\nenvironment:\n  docker: {enabled: true, baseImage: base:2}\n  python:\n    userManagedDependencies: true\n"
        )
        self.assertEqual(loaded.configuration()["container"], {"image": "base:2"})
        self.assertNotIn("docker", told)
        loaded, _ = self.load("script: a.py\ncontainer:\n  image: base:3\n")
        self.assertEqual(loaded.configuration()["container"], {"image": "base:3"})

    def test_keys_that_neither_layout_knows_are_refused_in_azure_mls_too(self):
        with self.assertRaisesRegex(RunConfigurationException, "line 4: the key 'interpreter'"):
            self.load("script: a.py\nenvironment:\n  python:\n    interpreter: x\n")

    def test_is_found_where_azure_mls_sdk_keeps_it(self):
        os.makedirs(os.path.join(self.folder, ".azureml"))
        self.write("script: a.py\n", os.path.join(".azureml", "local.runconfig"))
        self.assertEqual("a.py", RunConfiguration.load(self.folder, "local").script)
        with self.assertRaisesRegex(UserErrorException, "no run configuration other"):
            RunConfiguration.load(self.folder, "other")

    def test_a_data_reference_among_the_arguments_becomes_its_path(self):
        store = type("Store", (), {"name": "work-space"})()
        configuration = RunConfiguration("a.py", ["--data", DataReference(store, path_on_datastore="in/x").as_download()])
        self.assertEqual(["--data", "data/work_space_in_x"], configuration.configuration()["arguments"])
        self.assertEqual(
            {"work_space_in_x": {"datastore": "work-space", "path": "in/x"}}, configuration.configuration()["dataReferences"]
        )

    def test_the_default_configuration_is_only_its_script(self):
        self.assertEqual({"script": "a.py"}, RunConfiguration("a.py").configuration())
        self.assertEqual({}, Environment("").source())
        self.assertEqual(DataReferenceConfiguration("a"), DataReferenceConfiguration("a", mode="mount"))

    def test_files_that_a_snapshot_will_not_hold_are_put_into_the_configuration(self):
        os.makedirs(os.path.join(self.folder, ".azureml"))
        self.write("dependencies: [python=3.11]\n", ".azureml/env.yml")
        self.write("print()\n", "a.py")
        configuration = RunConfiguration("a.py")
        configuration.environment.python.conda_dependencies_file = ".azureml/env.yml"
        made = ScriptRunConfig(self.folder, run_config=configuration).configuration()
        self.assertEqual({"conda": {"dependencies": ["python=3.11"]}}, made["environment"])
        with self.assertRaisesRegex(RunConfigurationException, "no script b.py"):
            ScriptRunConfig(self.folder, "b.py").configuration()


class CondaDependenciesTest(unittest.TestCase):
    def test_saved_and_loaded_without_loss(self):
        chance = random.Random(3)
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(200):
                made = CondaDependencies(_underlying_structure=some_conda(chance))
                made.save_to_file(folder)
                again = CondaDependencies(os.path.join(folder, "conda_dependencies.yml"))
                self.assertEqual(typed(made.as_dict()), typed(again.as_dict()))

    def test_packages_are_added_once_and_removed(self):
        made = CondaDependencies.create(pip_packages=["scikit-learn==1.0"], conda_packages=["numpy"], python_version="3.9")
        made.add_pip_package("Scikit_Learn>=1.5")
        made.add_conda_package("numpy=2")
        made.add_conda_package("python=3.11")
        made.set_pip_option("--extra-index-url https://example.org/simple")
        self.assertEqual(["Scikit_Learn>=1.5"], list(made.pip_packages))
        self.assertEqual(["python=3.11", "numpy=2"], list(made.conda_packages))
        self.assertEqual("3.11", made.get_python_version())
        made.remove_pip_package("scikit-learn")
        made.remove_conda_package("numpy")
        made.set_python_version("3.12")
        self.assertEqual(([], ["python=3.12"]), (list(made.pip_packages), list(made.conda_packages)))
        self.assertEqual(["--extra-index-url https://example.org/simple"], list(made.pip_options))

    def test_requirements_of_the_same_package_are_merged(self):
        merged = CondaDependencies.merge_requirements(["a", "a>=1", "b==2", "a<2", "c>1; python_version < '3'"])
        self.assertEqual(["a>=1,<2", "b==2", "c>1; python_version < '3'"], merged)

    def test_a_requirements_file_is_read_with_what_it_includes(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("a.txt", "# all\r\nnumpy==2 # why\n-r b.txt\n\n"), ("b.txt", "scipy \\\n  >=1\n")):
                with open(os.path.join(folder, name), "w", newline="") as file:
                    file.write(text)
            made = Environment.from_pip_requirements("e", os.path.join(folder, "a.txt"))
        self.assertEqual(["numpy==2", "scipy >=1"], made.source()["requirements"])

    def test_what_is_no_conda_file_is_refused(self):
        for content in ({"dependencies": "x"}, {"dependencies": [1]}, {"dependencies": [{"pip": "x"}]}):
            with self.assertRaises(UserErrorException):
                CondaDependencies(_underlying_structure=content)


if __name__ == "__main__":
    unittest.main()
