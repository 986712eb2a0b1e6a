"""The scorer as an image runs it: a process of its own, with uvicorn from its lock file, on a Unix socket."""
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SCORER = os.path.join(os.path.dirname(HERE), "scorer")
folder = None
packages = ""
numpy = ""


def setUpModule():
    global folder, packages, numpy
    folder = tempfile.TemporaryDirectory()
    tools, packages, numpy = (os.path.join(folder.name, name) for name in ("tools", "packages", "numpy"))
    subprocess.run([sys.executable, "-m", "venv", tools], check=True)
    install = [os.path.join(tools, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", "--target"]
    lock = os.path.join(SCORER, "requirements.lock")
    subprocess.run(install + [packages, "--require-hashes", "-r", lock], check=True)
    subprocess.run(install + [numpy, "numpy"], check=True)


def tearDownModule():
    folder.cleanup()


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("scorer", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Scorer:
    """A running scorer with this script, these models ({"name/version/file": content}) and the user's own packages."""

    def __init__(self, script, models=None, path=(), wait=True, **environment):
        self.folder = tempfile.TemporaryDirectory()
        self.wait = wait
        app, models_dir = os.path.join(self.folder.name, "app"), os.path.join(self.folder.name, "models")
        os.makedirs(models_dir)
        self.put("app/score.py", textwrap.dedent(script))
        for name, content in (models or {}).items():
            self.put("models/" + name, content)
        self.socket = os.path.join(self.folder.name, "score.sock")
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(path), "STELLWERK_APP_DIR": app, "AZUREML_MODEL_DIR": models_dir}
        env.update(STELLWERK_SCORER_PACKAGES=packages, STELLWERK_SOCKET=self.socket, **environment)
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(SCORER, "serve.py")], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
        )
        self.lines = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout))
        self.reader.start()

    def put(self, name, content):
        path = os.path.join(self.folder.name, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)

    def __enter__(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            # A socket is there a moment before anybody listens.
            if os.path.exists(self.socket) and (self.ask("GET", "/ready")[0] == 200 if self.wait else self.ask("GET", "/")[0] != 0):
                return self
            time.sleep(0.02)
        self.end()
        raise AssertionError("The scorer did not come up: " + self.log())

    def __exit__(self, *_):
        self.end()

    def end(self):
        """The exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self.reader.join()
        self.process.stdout.close()
        self.folder.cleanup()
        return code

    def ask(self, method, path, body=None, headers=None):
        connection = UnixConnection(self.socket)
        try:
            headers = headers or {}
            body = body.encode("utf-8") if isinstance(body, str) else body
            connection.request(method, path, body, headers, encode_chunked="Transfer-Encoding" in headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8"), answer.headers
        except ConnectionRefusedError:
            return 0, "", {}
        finally:
            connection.close()

    def score(self, data, **headers):
        status, body, _ = self.ask("POST", "/score", data if isinstance(data, (str, bytes)) else json.dumps(data), headers)
        return status, json.loads(body)

    def log(self):
        return "".join(self.lines)

    def wait_for(self, line):
        deadline = time.monotonic() + 20
        while line not in self.log():
            if time.monotonic() > deadline:
                raise AssertionError("%r is not in the log: %s" % (line, self.log()))
            time.sleep(0.02)


class WhatRunIsGivenAndReturns(unittest.TestCase):
    def test_run_is_given_the_raw_text_and_init_is_called_once(self):
        script = """
            calls = []
            def init():
                calls.append(1)
                print("init was called")
            def run(raw):
                return [type(raw).__name__, raw, len(calls)]
        """
        with Scorer(script) as scorer:
            self.assertEqual(scorer.score("{not JSON, ü"), (200, ["str", "{not JSON, ü", 1]))
            self.assertEqual(scorer.score('{"data": [1]}'), (200, ["str", '{"data": [1]}', 1]))
            scorer.wait_for("init was called\n")

    def test_values_are_encoded_as_json_also_those_of_numpy(self):
        script = """
            import json, numpy
            def run(raw):
                return eval(raw, {"numpy": numpy})
        """
        answers = {
            "'text'": "text",
            "{'a': [1, 2.5, None, True]}": {"a": [1, 2.5, None, True]},
            "numpy.arange(6).reshape(2, 3)": [[0, 1, 2], [3, 4, 5]],
            "numpy.float32(0.5)": 0.5,
            "{'predictions': [numpy.int64(7)], 'mean': numpy.mean([1, 2])}": {"predictions": [7], "mean": 1.5},
            "[float('nan'), numpy.array([1.0, float('inf')])]": [None, [1.0, None]],
            "None": None,
        }
        with Scorer(script, path=[numpy]) as scorer:
            for code, value in answers.items():
                with self.subTest(code):
                    self.assertEqual(scorer.score(code), (200, value))
            status, body = scorer.score("object()")
            self.assertEqual(status, 500)
            self.assertIn("object, which is not JSON serializable", body["message"])

    def test_bytes_are_answered_as_they_are(self):
        with Scorer("def run(raw): return bytes([1, 2])") as scorer:
            status, body, headers = scorer.ask("POST", "/score", "")
            self.assertEqual((status, body, headers["content-type"]), (200, "\x01\x02", "application/octet-stream"))

    def test_a_script_with_rawhttp_gets_the_request_and_makes_the_answer(self):
        script = """
            from azureml.contrib.services.aml_request import AMLRequest, rawhttp
            from azureml.contrib.services.aml_response import AMLResponse
            @rawhttp
            def run(request):
                if request.method == "GET":
                    return AMLResponse("args " + ",".join(request.args.getlist("x")), 201, {"X-Mine": "yes"})
                if request.files:
                    image = request.files["image"]
                    return AMLResponse({"name": image.filename, "bytes": len(image.read()), "form": request.form}, 200)
                return AMLResponse(request.get_json(), 200, json_str=True)
        """
        with Scorer(script) as scorer:
            status, body, headers = scorer.ask("GET", "/score?x=1&x=2")
            self.assertEqual((status, body, headers["x-mine"]), (201, "args 1,2", "yes"))
            status, body, _ = scorer.ask("POST", "/score", '{"a": 1}', {"Content-Type": "application/json"})
            self.assertEqual((status, json.loads(body)), (200, {"a": 1}))
            form = '--b\r\nContent-Disposition: form-data; name="note"\r\n\r\nhi\r\n' '--b\r\nContent-Disposition: form-data; name="image"; filename="i.png"\r\nContent-Type: image/png\r\n\r\n12345\r\n--b--\r\n'
            status, body, _ = scorer.ask("POST", "/score", form, {"Content-Type": "multipart/form-data; boundary=b"})
            self.assertEqual(json.loads(body), {"name": "i.png", "bytes": 5, "form": {"note": "hi"}})


class WhatTheUsersCodeSees(unittest.TestCase):
    def test_packages_of_the_scorer_are_not_importable(self):
        script = """
            import importlib
            def run(raw):
                found = []
                for name in ("uvicorn", "h11", "click"):
                    try:
                        found.append(importlib.import_module(name).__file__)
                    except ImportError:
                        pass
                return found
        """
        with Scorer(script) as scorer:
            status, found = scorer.score("")
            self.assertEqual(status, 200)
            self.assertEqual([file for file in found if file.startswith(packages)], [])  # the machine's own Python may have some

    def test_the_users_own_version_of_a_package_is_the_one_imported(self):
        with tempfile.TemporaryDirectory() as mine:
            for name in ("h11", "click", "uvicorn", "answers", "script"):
                with open(os.path.join(mine, name + ".py"), "w") as file:
                    file.write("mine = True\n")
            with Scorer("import h11, click, uvicorn, answers, script\ndef run(raw): return h11.mine and click.mine and uvicorn.mine", path=[mine]) as scorer:
                self.assertEqual(scorer.score(""), (200, True))
                self.assertEqual(scorer.score(""), (200, True))

    def test_a_real_azureml_in_the_image_comes_before_the_stand_in(self):
        with tempfile.TemporaryDirectory() as mine:
            os.makedirs(os.path.join(mine, "azureml"))
            with open(os.path.join(mine, "azureml", "__init__.py"), "w") as file:
                file.write("real = True\n")
            with Scorer("import azureml\ndef run(raw): return azureml.real", path=[mine]) as scorer:
                self.assertEqual(scorer.score(""), (200, True))

    def test_model_paths_are_found_by_name_as_in_azure_ml_v1(self):
        script = """
            import os
            from azureml.core.model import Model
            import stellwerk.core.model
            def run(raw):
                name, _, version = raw.partition(":")
                path = Model.get_model_path(name, version=int(version) if version else None)
                assert path == stellwerk.core.model.Model.get_model_path(name, int(version) if version else None)
                return [os.path.relpath(path, os.environ["AZUREML_MODEL_DIR"]), os.path.isfile(path)]
        """
        models = {"one/1/m.pkl": "", "one/10/m.pkl": "", "one/9/m.pkl": "", "many/3/a": "", "many/3/b/c": ""}
        with Scorer(script, models) as scorer:
            self.assertEqual(scorer.score("one"), (200, ["one/10/m.pkl", True]))
            self.assertEqual(scorer.score("one:9"), (200, ["one/9/m.pkl", True]))
            self.assertEqual(scorer.score("many"), (200, ["many/3", False]))
            status, body = scorer.score("none")
            self.assertEqual(status, 500)
            self.assertIn("Model 'none' is not in this image, which holds many, one;", body["message"])

    def test_with_the_sdk_in_the_image_the_rest_of_azureml_core_is_the_sdks(self):
        script = """
            from azureml.core import Workspace, Model
            from azureml.core.model import Model as Same
            import stellwerk.core
            def run(raw):
                assert Model is Same
                paths = [Model.get_model_path("one"), stellwerk.core.Model.get_model_path("one")]
                return [Workspace is stellwerk.core.Workspace, paths[0] == paths[1], stellwerk.core.__file__]
        """
        sdk = os.path.join(os.path.dirname(HERE), "src")
        with Scorer(script, {"one/1/m.pkl": ""}, path=[sdk]) as scorer:
            status, body = scorer.score("")
            self.assertEqual((status, body[:2]), (200, [True, True]))
            self.assertTrue(body[2].startswith(sdk))

    def test_azureml_model_dir_is_the_single_models_own_folder(self):
        script = "import os\ndef run(raw): return open(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'm.pkl')).read()"
        with Scorer(script, {"diabetes/2/m.pkl": "content"}) as scorer:
            self.assertEqual(scorer.score(""), (200, "content"))

    def test_a_script_in_a_folder_finds_modules_beside_it_and_at_the_top(self):
        scorer = Scorer("", wait=False, STELLWERK_ENTRY="src/serve.py")
        scorer.put("app/src/serve.py", "import beside, top, os\ndef run(raw): return [beside.value, top.value, os.path.exists('src')]")
        scorer.put("app/src/beside.py", "value = 1")
        scorer.put("app/top.py", "value = 2")
        with scorer:
            scorer.wait_for("src/serve.py is ready.")
            self.assertEqual(scorer.score(""), (200, [1, 2, True]))

    def test_modules_beside_the_script_are_importable_and_files_are_found(self):
        script = "import beside\ndef run(raw): return [beside.value, open('data.txt').read()]"
        scorer = Scorer(script, wait=False)
        scorer.put("app/beside.py", "value = 5")
        scorer.put("app/data.txt", "text")
        with scorer:
            scorer.wait_for("score.py is ready.")
            self.assertEqual(scorer.score(""), (200, [5, "text"]))


class Failures(unittest.TestCase):
    def test_an_exception_is_told_without_paths_and_logged_with_its_trace(self):
        script = "def run(raw):\n    return open('/secret/place/' + raw)"
        with Scorer(script) as scorer:
            status, body = scorer.score("file")
            self.assertEqual(status, 500)
            self.assertNotIn("/secret", json.dumps(body))
            self.assertNotIn("Traceback", json.dumps(body))
            self.assertIn("FileNotFoundError", body["message"])
            scorer.wait_for("incident %s" % body["incident"])
            scorer.wait_for("No such file or directory: '/secret/place/file'")
            scorer.wait_for("Traceback")

    def test_sys_exit_in_the_script_costs_one_request_only(self):
        with Scorer("import sys\ndef run(raw):\n    if raw == 'exit': sys.exit(3)\n    return 1") as scorer:
            self.assertEqual(scorer.score("exit")[0], 500)
            self.assertEqual(scorer.score(""), (200, 1))

    def test_it_is_alive_but_not_ready_until_init_ends(self):
        script = "import time, os\ndef init():\n    while not os.path.exists('go'): time.sleep(0.01)\ndef run(raw): return 1"
        with Scorer(script, wait=False) as scorer:
            self.assertEqual(scorer.ask("GET", "/")[:2], (200, "Healthy"))
            status, body, _ = scorer.ask("GET", "/ready")
            self.assertEqual((status, json.loads(body)["state"]), (503, "starting"))
            self.assertEqual(scorer.score("")[0], 503)
            scorer.put("app/go", "")
            scorer.wait_for("score.py is ready.")
            self.assertEqual(scorer.ask("GET", "/ready")[0], 200)
            self.assertEqual(scorer.score(""), (200, 1))

    def test_the_reason_why_it_is_not_ready_is_told(self):
        reasons = {
            "def init(): raise ValueError('no weights')\ndef run(raw): pass": "init() of score.py raised ValueError: no weights",
            "import nothing_like_this": "Loading score.py raised ModuleNotFoundError",
            "def init(): pass": "score.py has no function run(data).",
            "def run(": "Loading score.py raised SyntaxError",
        }
        for script, reason in reasons.items():
            with self.subTest(reason), Scorer(script, wait=False) as scorer:
                scorer.wait_for("not ready:")
                status, body, _ = scorer.ask("GET", "/ready")
                self.assertEqual((status, json.loads(body)["state"]), (503, "failed"))
                self.assertIn(reason, json.loads(body)["reason"])
                self.assertEqual(scorer.process.wait(20), 3)

    def test_unknown_paths_and_methods_are_refused(self):
        with Scorer("def run(raw): return 1") as scorer:
            self.assertEqual(scorer.ask("GET", "/nothing")[0], 404)
            self.assertEqual(scorer.ask("GET", "/score")[0], 405)
            self.assertEqual(scorer.ask("DELETE", "/")[0], 405)

    def test_a_body_over_the_limit_is_refused_with_and_without_a_length(self):
        with Scorer("def run(raw): return len(raw)", STELLWERK_BODY_LIMIT="1000") as scorer:
            self.assertEqual(scorer.score("x" * 1000), (200, 1000))
            self.assertEqual(scorer.score("x" * 1001)[0], 413)
            status, _, _ = scorer.ask("POST", "/score", iter([b"x" * 600, b"x" * 600]), {"Transfer-Encoding": "chunked"})
            self.assertEqual(status, 413)

    def test_a_body_that_is_not_text_is_refused(self):
        with Scorer("def run(raw): return 1") as scorer:
            self.assertEqual(scorer.score(b"\xff\xfe")[0], 400)

    def test_a_run_over_its_time_is_answered_and_its_replica_is_not_ready_until_it_comes_back(self):
        script = "import time\ndef run(raw):\n    time.sleep(float(raw))\n    return 'done'"
        with Scorer(script, STELLWERK_SCORING_TIMEOUT_MS="300") as scorer:
            self.assertEqual(scorer.score("1.5")[0], 504)
            status, body, _ = scorer.ask("GET", "/ready")
            self.assertEqual((status, json.loads(body)["state"]), (503, "stuck"))
            time.sleep(1.5)
            self.assertEqual(scorer.ask("GET", "/ready")[0], 200)
            self.assertEqual(scorer.score("0"), (200, "done"))


class Concurrency(unittest.TestCase):
    SLOW = """
        import threading, time
        now, most, lock = 0, 0, threading.Lock()
        def run(raw):
            global now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.3)
            with lock:
                now -= 1
            return most
    """

    def together(self, scorer, count):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(scorer.score(""))) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def test_one_thread_calls_run_unless_more_are_asked_for(self):
        with Scorer(self.SLOW) as scorer:
            self.assertEqual(self.together(scorer, 3), [(200, 1)] * 3)
        with Scorer(self.SLOW, STELLWERK_WORKERS="3") as scorer:
            self.assertEqual(max(self.together(scorer, 3)), (200, 3))

    def test_requests_beyond_the_queue_are_told_to_come_back(self):
        with Scorer(self.SLOW, STELLWERK_MAX_WAITING="1") as scorer:
            statuses = sorted(status for status, _ in self.together(scorer, 5))
            self.assertEqual(statuses, [200, 200, 503, 503, 503])

    def test_sigterm_lets_requests_in_flight_end_and_exits_with_zero(self):
        script = "import time\ndef run(raw):\n    print('begun')\n    time.sleep(0.7)\n    return 'ended'"
        scorer = Scorer(script)
        with scorer:
            answers = []
            thread = threading.Thread(target=lambda: answers.append(scorer.score("")))
            thread.start()
            scorer.wait_for("begun")
            scorer.process.send_signal(signal.SIGTERM)
            thread.join()
            self.assertEqual(answers, [(200, "ended")])
            self.assertEqual(scorer.process.wait(20), 0)


if __name__ == "__main__":
    unittest.main()
