"""What of stellwerk.core needs no server: where a workspace's config is found, how things look in a notebook, names that code brings along."""

import inspect
import io
import json
import os
import tempfile
import unittest
from contextlib import redirect_stderr

import vendored  # noqa: F401
import stellwerk.core
from stellwerk._progress import Progress, size_text
from stellwerk._snapshots import snapshot_of
from stellwerk._transport import StellwerkError, Transport
from stellwerk.client import Client, Record, ServiceError
from stellwerk.core import AksCompute, ComputeTarget, DockerCompute, Experiment, Image, Model, Run, Webservice, Workspace
from stellwerk.core.exceptions import AzureMLException, ComputeTargetException, ModelNotFoundException, WebserviceException, named_as_before
from stellwerk.core.image import ContainerImage
from stellwerk.core.model import model_in
from stellwerk.core.webservice import AciWebservice, InferenceConfig
from stellwerk.core.workspace import find_config, read_config

EVIL = "<script>alert('x')</script>\"&"


class ConfigTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="stellwerk ü ")
        self.addCleanup(folder.cleanup)
        self.folder = os.path.realpath(folder.name)

    def write(self, name, content):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8-sig") as file:
            json.dump(content, file)
        return path

    def below(self, *parts):
        path = os.path.join(self.folder, *parts)
        os.makedirs(path, exist_ok=True)
        return path

    def test_is_found_from_any_folder_below_ours_first(self):
        azures = self.write(".azureml/config.json", {"subscription_id": "s", "workspace_name": "azures"})
        deep = self.below("a", "b c", "ü")
        self.assertEqual(azures, find_config(deep))
        ours = self.write(".stellwerk/config.json", {"url": "http://x", "workspace_name": "ours"})
        self.assertEqual(ours, find_config(deep))
        nearer = self.write("a/aml_config/config.json", {"workspace_name": "nearer"})
        self.assertEqual("nearer", read_config(find_config(deep))["workspace_name"])
        self.assertEqual(nearer, find_config(nearer))

    def test_a_config_file_of_another_program_is_passed_over(self):
        ours = self.write("config.json", {"workspace_name": "w"})
        self.write("a/config.json", {"port": 80})
        self.assertEqual(ours, find_config(self.below("a", "b")))

    def test_none_says_where_it_was_looked_for_and_what_to_do(self):
        with self.assertRaisesRegex(AzureMLException, "write_config"):
            find_config(self.below("a"))
        with self.assertRaisesRegex(AzureMLException, "names no workspace"):
            read_config(self.write(".stellwerk/config.json", {"url": "x"}))

    def test_is_written_without_secrets_and_read_again(self):
        path = workspace().write_config(self.folder)
        self.assertEqual(os.path.join(self.folder, ".stellwerk", "config.json"), path)
        self.assertEqual({"subscription_id": EVIL, "url": "http://127.0.0.1:1", "workspace_name": "w"}, read_config(path))


def workspace():
    record = Record({"name": "w", "id": "1", "tags": {EVIL: EVIL}, "labels": {"subscription_id": EVIL}, "description": EVIL})
    return Workspace._of(Client.over(Transport("http://127.0.0.1:1", "secret")), record)


class ErrorsAsTextTest(unittest.TestCase):
    def test_paths_steer_no_terminal(self):
        path = "/no\x1b]0;title\x07/\x9b2J\u202efdp.\udcff"
        wanted = "/no\\x1b]0;title\\x07/\\x9b2J\\u202efdp.\\udcff"
        for act in (
            lambda: Model.register(None, path, "m"),
            lambda: find_config(path),
            lambda: snapshot_of(path),
        ):
            with self.assertRaises(StellwerkError) as raised:
                act()
            self.assertIn(wanted, str(raised.exception))
            str(raised.exception).encode("utf-8")
        self.assertEqual("Two\nlines, Zoë.", str(ServiceError("not-found", "", "Two\nlines, Zoë.")))


class NotebookTest(unittest.TestCase):
    def test_what_users_wrote_is_text_never_markup(self):
        names = {
            "name": EVIL,
            "id": EVIL,
            "description": EVIL,
            "tags": {EVIL: EVIL},
            "models": [EVIL],
            "aliases": [EVIL],
            "version": 1,
            "image": EVIL,
            "properties": {},
        }
        run = {"experiment": EVIL, "id": EVIL, "displayName": EVIL, "state": "failed", "reason": EVIL, "tags": {EVIL: EVIL}}
        target = {"name": EVIL, "kind": "host", "state": "usable", "queued": 0, "running": 0}
        shown = [
            workspace(),
            Experiment(workspace(), EVIL),
            Run._of(Experiment(workspace(), "e"), Record(run)),
            Model._of(workspace(), Record(names)),
            Image._of(workspace(), Record(names, state="building")),
            Webservice._of(workspace(), Record(names, state="healthy")),
            ComputeTarget._of(workspace(), Record(target)),
        ]
        for one in shown:
            text = one._repr_html_()
            self.assertNotIn("<script", text, type(one))
            self.assertIn("alert(", text, type(one))
            self.assertNotIn("secret", text + repr(one))
            self.assertNotIn("href", text, "there are no pages to lead to")


class NamesTest(unittest.TestCase):
    def test_the_names_of_azureml_core_are_there(self):
        for name in (
            "Workspace Experiment Run ScriptRun ScriptRunConfig RunConfiguration Environment Model Image Webservice Datastore ComputeTarget"
        ).split():
            self.assertTrue(inspect.isclass(getattr(stellwerk.core, name)), name)
        methods = (
            "get_context log log_list log_row log_table log_image log_confusion_matrix log_predictions log_residuals log_accuracy_table tag set_tags "
            "get_tags add_properties upload_file upload_files upload_folder download_file download_files get_metrics get_details get_details_with_logs "
            "get_file_names get_children child_run create_children wait_for_completion get_status register_model cancel complete fail get_portal_url"
        )
        from stellwerk.core.model import InferenceConfig as FoundWithModels

        self.assertIs(InferenceConfig, FoundWithModels)
        for name in methods.split():
            self.assertTrue(callable(getattr(Run, name)), name)

    def test_refusals_have_the_names_that_code_for_azure_ml_catches(self):
        error = ServiceError("not-found", "model.not-found", "There is no model x.", "List models.", None, 404)
        made = named_as_before(error)
        self.assertIsInstance(made, ModelNotFoundException)
        self.assertIsInstance(made, WebserviceException)
        self.assertIsInstance(made, ServiceError)
        self.assertEqual(("model.not-found", 404, "There is no model x. List models."), (made.reason, made.status, str(made)))

    def test_a_dockerfile_is_refused_with_the_reason(self):
        with self.assertRaisesRegex(WebserviceException, "without Docker"):
            ContainerImage.image_configuration("score.py", "python", docker_file="Dockerfile")

    def test_container_instances_have_no_key_unless_asked(self):
        self.assertEqual(
            "none", AciWebservice.deploy_configuration(cpu_cores=1, memory_gb=1, tags={"a": 1}).fields()["authentication"]
        )
        self.assertEqual("key", AciWebservice.deploy_configuration(auth_enabled=True).fields()["authentication"])


class ImageFilesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder.name)
        for name in ("score.py", "lib/a b.py", "lib/ü/c.py", "x/data.csv"):
            os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
            with open(name, "w") as file:
                file.write("pass\n")

    def test_the_script_and_its_dependencies_keep_their_paths(self):
        made = ContainerImage.image_configuration("score.py", "python", dependencies=["lib", os.path.abspath("x/data.csv")])
        self.assertEqual(["lib/a b.py", "lib/ü/c.py", "score.py", "x/data.csv"], sorted(made.files()))

    def test_a_source_directory_is_taken_whole_and_what_lies_outside_by_its_name(self):
        made = InferenceConfig("a b.py", source_directory="lib")
        self.assertEqual(["a b.py", "ü/c.py"], sorted(made.files()))
        os.chdir("x")
        self.assertEqual(["score.py"], list(ContainerImage.image_configuration("../score.py").files()))

    def test_a_missing_file_is_named(self):
        with self.assertRaisesRegex(WebserviceException, "no file or folder nope.py"):
            ContainerImage.image_configuration("nope.py").files()

    def test_a_model_beside_the_script_is_found_by_its_latest_version(self):
        for name in ("m/2/model.pkl", "m/10/model.pkl", "f/1/a", "f/1/b"):
            os.makedirs(os.path.dirname(name), exist_ok=True)
            with open(name, "w") as file:
                file.write("x")
        self.assertEqual(
            ["m/10/model.pkl", "m/2/model.pkl", "f/1", None],
            [model_in("m", None), model_in("m", 2), model_in("f", None), model_in("g", None)],
        )


class ProgressTest(unittest.TestCase):
    def test_bars_are_for_those_who_look(self):
        told = io.StringIO()
        with redirect_stderr(told), Progress("Uploading", 10) as bar:
            bar(10)
        self.assertEqual("", told.getvalue())
        told.isatty = lambda: True
        with redirect_stderr(told), Progress("Uploading \x1b[31m", 2_000_000) as bar:
            bar(2_000_000)
        self.assertIn("100 % of 2.0 MB", told.getvalue())
        self.assertNotIn("\x1b", told.getvalue())
        self.assertEqual(["999 B", "1.5 GB"], [size_text(999), size_text(1.5e9)])


class DockerComputeTest(unittest.TestCase):
    def test_what_signs_in_is_read_from_files_and_kept_apart_from_the_settings(self):
        with tempfile.TemporaryDirectory() as folder:
            names = ("ca", "certificate", "key")
            for name in names:
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write("the " + name)
            files = {name + "_file": os.path.join(folder, name) for name in names}
            made = DockerCompute.attach_configuration("tcp://engine:2376", image="base:1", **files)
        kept = {}

        class Secrets:
            def set(self, workspace, name, value):
                kept[name] = (workspace, value)

        class Workspace:
            name = "w"
            client = type("Client", (), {"secrets": Secrets()})

        settings = made.kept(Workspace(), "engine")
        names = {name: "engine-" + name for name in names}
        self.assertEqual(settings, dict({"kind": "docker", "address": "tcp://engine:2376", "image": "base:1"}, **names))
        self.assertEqual(kept, {"engine-" + name: ("w", "the " + name) for name in ("ca", "certificate", "key")})
        self.assertNotIn("the key", repr(made))

class AksComputeTest(unittest.TestCase):
    def test_the_kubeconfig_is_kept_apart_from_the_settings(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "config")
            with open(path, "w", encoding="utf-8") as file:
                file.write("the kubeconfig")
            made = AksCompute.attach_configuration(path, namespace="training", registry_user="puller", registry_password="secret")
        kept = {}

        class Secrets:
            def set(self, workspace, name, value):
                kept[name] = (workspace, value)

        class Workspace:
            name = "w"
            client = type("Client", (), {"secrets": Secrets()})

        names = {what: "cluster-" + what for what in ("kubeconfig", "registryUser", "registryPassword")}
        self.assertEqual(made.kept(Workspace(), "cluster"), dict({"kind": "kubernetes", "namespace": "training"}, **names))
        self.assertEqual(kept["cluster-kubeconfig"], ("w", "the kubeconfig"))
        self.assertEqual(kept["cluster-registryPassword"], ("w", "secret"))
        self.assertNotIn("secret", repr(made))

    def test_a_namespace_is_made_on_an_attached_cluster_and_what_only_a_cloud_has_is_refused(self):
        wanted = AksCompute.provisioning_configuration(on="cluster", cpus=4, memory="16GB")
        self.assertEqual(wanted, {"kind": "kubernetes", "on": "cluster", "cpus": 4, "memory": "16GB"})
        for wrong in (dict(), dict(on="cluster", vm_size="Standard_D3_v2")):
            with self.assertRaises(ComputeTargetException):
                AksCompute.provisioning_configuration(**wrong)


if __name__ == "__main__":
    unittest.main()
