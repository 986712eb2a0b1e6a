"""What a run asks of Spark: as the SDK describes it with v1's names, as files have it, and as the runner tells it to spark-submit."""

import os
import socketserver
import tempfile
import threading
import unittest
from unittest import mock

import vendored  # noqa: F401
from stellwerk.core.compute import HDInsightCompute
from stellwerk.core.runconfig import RunConfiguration, SparkPackage
from stellwerk._files import read_json, write_json
from stellwerk.runner import spark, yarn
from stellwerk.runner.programs import PreparationFailed


class TestDescribed(unittest.TestCase):
    def test_names_of_before_make_the_record_and_come_back(self):
        wanted = RunConfiguration("train.py", framework="PySpark")
        wanted.spark.configuration["spark.executor.memory"] = "2g"
        wanted.spark.configuration["spark.ui.enabled"] = False
        wanted.spark.configuration["spark.master"] = "yarn"
        wanted.spark.packages = [SparkPackage("org.example", "lib_2.12", "1.0"), "a:b:c"]
        wanted.spark.executors["count"] = 2
        made = wanted.configuration()
        expected = {
            "master": "yarn",
            "executors": {"count": 2},
            "packages": ["org.example:lib_2.12:1.0", "a:b:c"],
            "settings": {"spark.executor.memory": "2g", "spark.ui.enabled": "false"},
        }
        self.assertEqual((made["framework"], made["spark"]), ("PySpark", expected))
        self.assertEqual(RunConfiguration.of_configuration(made), wanted)
        wanted.framework = "Python"
        self.assertNotIn("spark", wanted.configuration())

    def load(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "it.runconfig")
            with open(path, "w") as file:
                file.write(text)
            return RunConfiguration.load(path)

    def test_files_of_both_layouts_are_read(self):
        old = self.load(
            "script: train.py\nframework: PySpark\nspark:\n  configuration:\n    spark.yarn.maxAppAttempts: 1\nenvironment:\n  python:\n"
            "    userManagedDependencies: true\n  spark:\n    repositories: []\n    packages:\n    - {group: g, artifact: a, version: '1'}\n    precachePackages: true\n"
        )
        self.assertEqual(old.configuration()["spark"], {"packages": ["g:a:1"], "settings": {"spark.yarn.maxAppAttempts": "1"}})
        new = self.load("script: train.py\nframework: PySpark\nspark:\n  executors: {count: 2, memory: 512m}\n")
        self.assertEqual(new.configuration()["spark"], {"executors": {"count": 2, "memory": "512m"}})
        with self.assertRaisesRegex(Exception, "line 4: the key 'executer' is not known"):
            self.load("script: train.py\nframework: PySpark\nspark:\n  executer: 2\n")

    def test_a_cluster_is_attached_with_the_names_of_before(self):
        settings = HDInsightCompute.attach_configuration("ada", "head", password="p", host_key="SHA256:x", livy="http://head:8998")
        expected = {"kind": "spark", "user": "ada", "address": "head", "port": 22, "hostKey": "SHA256:x", "livy": "http://head:8998"}
        self.assertEqual(settings._settings, expected)
        self.assertNotIn("'p'", repr(settings))


class TestSubmitted(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = folder.name
        os.mkdir(os.path.join(self.home, "bin"))
        self.submit = os.path.join(self.home, "bin", "spark-submit")
        with open(self.submit, "w") as file:
            file.write("#!/bin/sh\n")
        os.chmod(self.submit, 0o755)

    def command(self, **asked):
        return spark.command(dict(asked, home=self.home), ["/venv/bin/python", "-u", "/work/train.py", "--a", "1"], "/work")

    def test_what_is_asked_is_told_to_spark_submit_in_client_mode(self):
        words = self.command(
            master="yarn", executors={"count": 3, "cores": 2, "memory": "4g"}, driverMemory="1g", packages=["a:b:1", "c:d:2"],
            settings={"spark.b": "x y", "spark.a": "1"}, pyFiles=["lib.py", "more/z.zip"],
        )  # fmt: skip
        options = (
            "--master yarn --deploy-mode client --num-executors 3 --executor-cores 2 --executor-memory 4g --driver-memory 1g "
            "--packages a:b:1,c:d:2 --py-files /work/lib.py,/work/more/z.zip --conf spark.a=1 --conf"
        )
        self.assertEqual(words, [self.submit, *options.split(), "spark.b=x y", "/work/train.py", "--a", "1"])

    def test_a_standalone_master_is_told_the_cores_of_all_executors(self):
        words = self.command(master="spark://head:7077", executors={"count": 3})
        self.assertEqual(words[3:9], ["--deploy-mode", "client", "--total-executor-cores", "3", "--executor-cores", "1"])

    def test_without_spark_it_says_what_to_do(self):
        os.unlink(self.submit)
        with self.assertRaisesRegex(PreparationFailed, "no spark-submit in .*sparkHome"):
            self.command()

    def test_the_python_of_the_environment_is_that_of_driver_and_executors(self):
        self.assertEqual(spark.variables("/p"), {"PYSPARK_PYTHON": "/p", "PYSPARK_DRIVER_PYTHON": "/p"})


class TestOnYarn(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        write_json(os.path.join(self.folder, "job.json"), {"spark": {"deployMode": "cluster", "master": "yarn"}})

    def ended(self, *lines, began=True, asked=False):
        submission = yarn.Submission(self.folder)
        submission.lines.extend(lines)
        (submission.began.set if began else submission.began.clear)()
        (submission.asked.set if asked else submission.asked.clear)()
        self.assertEqual(submission._ended(1, submission._why()), 1)
        return read_json(os.path.join(self.folder, yarn.ENDING))

    def test_why_an_application_has_failed_is_told_as_yarn_says_it(self):
        for cause, said in (
            ("out-of-memory", "Container [pid=1] is running 12B beyond the 'PHYSICAL' memory limit. Killing container."),
            ("node-lost", "AM Container exited with exitCode: -100 Diagnostics: Container released on a *lost* node"),
            ("node-lost", "failed 1 times due to ApplicationMaster for attempt appattempt_1_1_1 timed out. Failing the application."),
            ("preempted", "Container preempted by scheduler"),
            ("canceled", "Application application_1_1 was killed by user ada at 10.0.0.1"),
            (None, "User application exited with status 1"),
        ):
            ended = self.ended("\t diagnostics: N/A", "\t ApplicationMaster host: a", "\t diagnostics: " + said.replace(" exited", " \nexited"), "\t ApplicationMaster host: N/A")
            self.assertEqual((ended.get("cause"), ended["reason"]), (cause, "Its application on YARN has failed: " + said))

    def test_what_never_began_was_refused_unless_somebody_did_not_want_it_any_more(self):
        line = "Exception in thread \"main\" java.lang.IllegalArgumentException: Required AM memory is above the max threshold"
        ended = self.ended(line, began=False)
        self.assertEqual(ended["cause"], "refused")
        self.assertIn("Required AM memory", ended["reason"])
        self.assertEqual(self.ended(line, began=False, asked=True)["cause"], "canceled")

    def test_an_application_that_is_over_is_not_looked_for(self):
        os.mkdir(os.path.join(self.folder, "shipped"))
        self.ended("\t diagnostics: N/A")
        with mock.patch.object(yarn, "_yarn") as asked:
            yarn.end(self.folder)
            asked.assert_not_called()
            os.unlink(os.path.join(self.folder, yarn.ENDING))
            asked.return_value = "Total number of applications:1\n\tApplication-Id\napplication_17_0001\tname\n"
            yarn.end(self.folder)
            self.assertEqual([call.args[1:] for call in asked.call_args_list], [("-list", "-appTags", yarn.tag_of(self.folder)), ("-kill", "application_17_0001")])


class Gateway(socketserver.StreamRequestHandler):
    """Answers as Py4J's gateway of a driver does, for the words that are asked: at first it has no application."""

    answers = {
        ("A", "secret"): ["yv"],
        ("r", "m", "org.apache.spark.SparkContext$", "MODULE$", "e"): ["yro1"],
        ("c", "o1", "getActive", "e"): ["yro2"],
        ("c", "o2", "isDefined", "e"): ["ybfalse", "ybtrue"],
        ("c", "o2", "get", "e"): ["yro3"],
        ("c", "o3", "applicationId", "e"): ["ysapp-1"],
        ("c", "o3", "uiWebUrl", "e"): ["yro4"],
        ("c", "o4", "isDefined", "e"): ["ybtrue"],
        ("c", "o4", "get", "e"): ["yshttp://head:4040"],
    }

    def handle(self):
        while True:
            words = [self.word()]
            while words[0] and len(words) < {"A": 2, "r": 5, "c": 4}[words[0]]:
                words.append(self.word())
            if words == [""]:
                return
            answers = self.answers.get(tuple(words), ["xno"])
            self.wfile.write(("!%s\n" % (answers.pop(0) if len(answers) > 1 else answers[0])).encode())

    def word(self):
        return self.rfile.readline().decode().rstrip("\n")


class TestApplication(unittest.TestCase):
    def test_it_is_asked_of_the_gateway_until_there_is_one(self):
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Gateway)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        self.assertIsNone(spark._asked(port, "secret"))
        self.assertEqual(spark._asked(port, "secret"), {"application": "app-1", "url": "http://head:4040"})
        with self.assertRaises(ValueError):
            spark._asked(port, "guessed")


if __name__ == "__main__":
    unittest.main()
