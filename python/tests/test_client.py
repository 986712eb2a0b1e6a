"""The generated client: how inputs travel, pages, streams that are cut, activities, sign-in."""

import json
import os
import pathlib
import stat
import tempfile
import threading
import unittest
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import vendored  # noqa: F401
from stellwerk.client import Activity, Client, Page, Record, ServiceError, SignInNeeded, Unreachable
from stellwerk.client.sign_in import Credentials, credentials_path, find_credentials, forget_credentials, keep_credentials


class Asked(dict):
    """One request as a server got it."""

    __getattr__ = dict.__getitem__


@contextmanager
def server(answer):
    """A server whose answers are `answer(asked, number)`: (status, body) or (status, body, headers, bytes to send before it hangs up)."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self):
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while True:
                    size = int(self.rfile.readline(), 16)
                    body += self.rfile.read(size)
                    self.rfile.readline()
                    if size == 0:
                        break
            one = Asked(method=self.command, path=parts.path, query=parse_qs(parts.query), body=body, headers=self.headers)
            asked.append(one)
            status, content, headers, cut = (*answer(one, len(asked)), {}, None)[:4]
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if cut is None else content[:cut])
            self.close_connection = cut is not None

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    client = Client("http://127.0.0.1:%d" % running.server_port, "secret")
    try:
        yield client, asked
    finally:
        running.shutdown()
        thread.join()
        running.server_close()
        client.transport.close()


ACTIVITY = {"id": "a1", "workspace": "w", "kind": "run", "subject": "r", "state": "running", "progress": {"message": "…"}}


class InputTest(unittest.TestCase):
    def test_path_fields_are_encoded_and_the_rest_is_the_json_body(self):
        with server(lambda asked, _: (200, {"id": "x", "createdAt": "now"})) as (client, asked):
            run = client.runs.update("w", "a b#ü?%.x", display_name="n", tags={"gone": None})
        self.assertEqual("/api/v1/workspaces/w/runs/a%20b%23%C3%BC%3F%25.x", asked[0].path)
        self.assertEqual({"displayName": "n", "tags": {"gone": None}}, json.loads(asked[0].body))
        self.assertEqual(("PATCH", "Bearer secret"), (asked[0].method, asked[0].headers["Authorization"]))
        self.assertEqual("now", run.created_at)

    def test_queries_repeat_lists_and_spell_truth_values(self):
        with server(lambda asked, _: (200, {"items": []})) as (client, asked):
            client.models.list("w", tag=["a=1", "b"], latest=True)
        self.assertEqual({"tag": ["a=1", "b"], "latest": ["true"]}, asked[0].query)

    def test_uploads_take_bytes_files_paths_and_iterables(self):
        digest = "sha256:" + "0" * 64
        with server(lambda asked, _: (200, {"digest": digest})) as (client, asked), tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "ä b")
            path.write_bytes(b"abc")
            with open(path, "rb") as file:
                for body in (b"abc", file, path, iter([b"a", b"bc"])):
                    client.blobs.append("w", digest, 3, body, offset=0)
        self.assertEqual([b"abc"] * 4, [one.body for one in asked])
        self.assertEqual({"offset": ["0"], "sizeBytes": ["3"]}, asked[0].query)

    def test_what_is_missing_is_named(self):
        with self.assertRaisesRegex(TypeError, "workspace"):
            Client("http://127.0.0.1:1", "t").runs.get(None, "x")


class AnswerTest(unittest.TestCase):
    def test_pages_go_on_through_all(self):
        def answer(asked, _):
            page = int(json.loads(asked.body).get("page", 0))
            return 200, {"items": [{"id": str(page)}], **({"nextPage": str(page + 1)} if page < 3 else {})}

        with server(answer) as (client, asked):
            first = client.runs.query("w", experiment="e")
            self.assertIsInstance(first, Page)
            self.assertEqual(["0", "1", "2", "3"], [one.id for one in first.all()])
        self.assertEqual({"e"}, {json.loads(one.body)["experiment"] for one in asked})

    def test_a_refusal_has_reason_and_hint_and_no_token(self):
        body = {"code": "not-found", "reason": "run.not-found", "message": "There is no run secret.", "hint": "List runs."}
        with server(lambda *_: (404, body)) as (client, _):
            with self.assertRaises(ServiceError) as caught:
                client.runs.get("w", "x")
        self.assertEqual(("run.not-found", 404), (caught.exception.reason, caught.exception.status))
        self.assertEqual("There is no run ***. List runs.", str(caught.exception))

    def test_no_server_is_unreachable(self):
        with self.assertRaises(Unreachable):
            Client("http://127.0.0.1:1", "t").server.get()

    def test_a_cut_download_goes_on_where_it_was(self):
        content = bytes(range(256)) * 4000

        def answer(asked, number):
            start = int((asked.headers["Range"] or "bytes=0-")[6:-1])
            return (206 if start else 200), content[start:], {}, (100_000 if number < 4 else None)

        with server(answer) as (client, asked), tempfile.TemporaryDirectory() as folder:
            path = client.runs.get_file("w", "r", "outputs/x").save(os.path.join(folder, "new", "x"))
            self.assertEqual(content, pathlib.Path(path).read_bytes())
            self.assertEqual(["x"], os.listdir(os.path.dirname(path)))
        self.assertEqual([None, "bytes=100000-", "bytes=200000-", "bytes=300000-"], [one.headers["Range"] for one in asked])

    def test_a_cut_log_goes_on_by_its_offset(self):
        def answer(asked, number):
            start = int(asked.query.get("offset", ["0"])[0])
            return 200, b"one\ntwo\nthree\n"[start:], {}, (5 if number == 1 else None)

        with server(answer) as (client, asked):
            self.assertEqual(["one", "two", "three"], list(client.logs.get("w", "r", follow=True).lines()))
        self.assertEqual([None, ["5"]], [one.query.get("offset") for one in asked])

    def test_records_are_dicts_with_attributes(self):
        record = Record({"createdAt": 1, "tags": {"a": "b"}})
        self.assertEqual((1, {"createdAt": 1, "tags": {"a": "b"}}), (record.created_at, dict(record)))
        with self.assertRaisesRegex(AttributeError, "no field 'nope'; it has createdAt, tags"):
            record.nope

    def test_records_are_text_in_a_notebook_never_markup(self):
        shown = Record({"<script>": "<img src=x onerror=alert(1)>", "list": ["<b>"], "map": {"<i>": "'\""}})._repr_html_()
        for word in ("<script>", "<img", "<b>", "<i>"):
            self.assertNotIn(word, shown)


def event(number, **changes):
    activity = dict(ACTIVITY, **changes)
    return ("id: %d\ndata: %s\n\n" % (number, json.dumps({"id": number, "activity": activity}))).encode()


class ActivityTest(unittest.TestCase):
    def answers(self, end):
        """Events of one activity, over a stream that is cut once within an event."""
        last = event(
            9, state=end, endedAt="2026-11-23T16:00:00Z", error={"reason": "x", "message": "It broke.", "hint": "Mend it."}
        )

        def answer(asked, _):
            if not asked.path.endswith("activity-events"):
                return 200, ACTIVITY
            if asked.headers["Last-Event-ID"] is None:
                whole = b": open\n\n" + event(7, progress={"message": "half"})
                return 200, whole + event(8)[:-5], {}, len(whole) + 20
            return 200, event(8, progress={"message": "nearly"}) + last

        return answer

    def test_waits_by_events_that_go_on_after_a_cut(self):
        with server(self.answers("succeeded")) as (client, asked):
            activity = client.activities.get("w", "a1")
            self.assertIsInstance(activity, Activity)
            self.assertEqual("succeeded", activity.wait(timeout_seconds=10).state)
        self.assertEqual("7", asked[-1].headers["Last-Event-ID"])

    def test_a_failed_one_raises_with_its_message_and_hint(self):
        with server(self.answers("failed")) as (client, _):
            with self.assertRaisesRegex(Exception, "It broke. Mend it."):
                client.activities.get("w", "a1").wait()

    def test_on_change_hears_every_change(self):
        heard = []
        with server(self.answers("succeeded")) as (client, _):
            client.activities.get("w", "a1").on_change(lambda one: heard.append(one["progress"]["message"])).join(10)
        self.assertEqual(["…", "half", "nearly", "…"], heard)

    def test_waiting_has_a_limit(self):
        with server(lambda asked, _: (200, b": open\n\n" if asked.path.endswith("events") else ACTIVITY)) as (client, _):
            with self.assertRaises(TimeoutError):
                client.activities.get("w", "a1").wait(timeout_seconds=0.3)


class SignInTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        before = dict(os.environ)
        self.addCleanup(os.environ.update, before)
        self.addCleanup(os.environ.clear)
        for name in before:
            if name.startswith("STELLWERK_"):
                del os.environ[name]
        os.environ["XDG_CONFIG_HOME"] = folder.name

    def test_is_kept_for_its_user_alone_in_the_form_that_the_command_line_shares(self):
        keep_credentials(Credentials("http://a:1/", "ta"))
        keep_credentials(Credentials("https://b", "tb", "/x/ca.pem"))
        mode = os.stat(credentials_path()).st_mode
        self.assertEqual((0o600, 0o700), (stat.S_IMODE(mode), stat.S_IMODE(os.stat(os.path.dirname(credentials_path())).st_mode)))
        with open(credentials_path()) as file:
            kept = json.load(file)
        servers = {"http://a:1": {"token": "ta"}, "https://b": {"token": "tb", "caBundle": "/x/ca.pem"}}
        self.assertEqual({"servers": servers, "current": "https://b"}, kept)
        self.assertEqual(("https://b", "tb", "/x/ca.pem"), find_credentials())
        self.assertEqual("ta", find_credentials("http://a:1").token)
        self.assertTrue(forget_credentials("https://b"))
        with self.assertRaisesRegex(SignInNeeded, "python -m stellwerk login"):
            find_credentials()

    def test_the_environment_wins_for_its_own_server_only(self):
        keep_credentials(Credentials("http://a:1", "kept"))
        os.environ.update(STELLWERK_URL="http://b:2/", STELLWERK_TOKEN="given")
        self.assertEqual(("http://b:2", "given", None), find_credentials())
        self.assertEqual("kept", find_credentials("http://a:1").token)
        with self.assertRaises(SignInNeeded):
            find_credentials("http://c:3")

    def test_nobody_signed_in_is_told_what_to_do(self):
        with self.assertRaisesRegex(SignInNeeded, "STELLWERK_URL and STELLWERK_TOKEN"):
            Client()

    def test_a_sign_in_link_is_redeemed_and_kept(self):
        from stellwerk.core.authentication import sign_in

        with server(lambda *_: (200, {"token": "new", "user": {"name": "u"}, "roles": {}})) as (client, asked):
            sign_in(client.url + "/sign-in#code-1")
            self.assertEqual({"code": "code-1", "tokenName": "Python SDK"}, json.loads(asked[0].body))
            self.assertIsNone(asked[0].headers["Authorization"])
            self.assertEqual((client.url, "new", None), find_credentials())


if __name__ == "__main__":
    unittest.main()
