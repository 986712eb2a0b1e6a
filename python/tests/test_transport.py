"""Speaking to a server: what is sent again and what is not, redirects, TLS, proxies, forks; the token is never shown."""

import http.server
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest

from fake_server import FakeServer

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src"))

from stellwerk._transport import ServiceError, Transport, Unreachable, path_of, query_of  # noqa: E402

TOKEN = "token-never-to-be-shown"
START = "/workspaces/ws/runs/start"


class TransportCase(unittest.TestCase):
    def setUp(self):
        self.server = FakeServer()
        self.addCleanup(self.server.stop)
        self.transport = Transport(self.server.url, TOKEN, attempts=3)
        self.addCleanup(self.transport.close)

    def faults(self, *faults):
        left = iter(faults)
        self.server.fault = lambda method, path: next(left, None)


class TestWayBack(TransportCase):
    def tried(self, *server):
        env = dict(os.environ, PYTHONPATH=os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src"))
        command = [sys.executable, "-S", "-m", "stellwerk.runner.way_back", *server]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, universal_newlines=True)
        return done.returncode, done.stdout

    def test_a_server_that_answers_is_reached(self):
        self.assertEqual((0, ""), self.tried(self.server.url))

    def test_one_that_does_not_is_told_with_the_reason(self):
        self.server.stop()
        code, told = self.tried(self.server.url)
        self.assertEqual((1, "The server %s cannot be reached: Connection refused.\n" % self.server.url), (code, told))
        code, told = self.tried("no address")
        self.assertEqual((1, True), (code, "must begin with http" in told), told)


class TestSendingAgain(TransportCase):
    def test_what_is_busy_is_tried_again(self):
        self.faults("busy", "busy")
        self.assertEqual(self.transport.call("POST", START, {"id": "a"})["id"], "a")
        self.assertEqual(len(self.server.requests), 3)

    def test_an_answer_that_is_lost_is_asked_for_again_only_where_that_is_harmless(self):
        self.faults("lost")
        with self.assertRaises(Unreachable):
            self.transport.call("POST", START, {"id": "a"})
        self.assertEqual(len(self.server.requests), 1)
        self.faults("lost")
        self.transport.call("POST", START, {"id": "a"}, idempotent=True)
        self.faults("lost")
        self.transport.call("GET", "/workspaces/ws/runs/a/logs")
        self.assertEqual(len(self.server.requests), 5)

    def test_a_server_that_is_away_for_a_moment_is_waited_for(self):
        self.server.stop()
        threading.Timer(0.3, self.server.restart).start()
        self.assertEqual(Transport(self.server.url, TOKEN).call("POST", START, {"id": "a"})["id"], "a")

    def test_a_connection_is_used_again_and_a_closed_one_is_noticed(self):
        for _ in range(5):
            self.transport.call("POST", START, {"id": "a"})
        self.assertEqual(len(self.server.connections), 1)
        self.server.stop()
        self.server.restart()
        self.assertEqual(self.transport.call("POST", START, {"id": "a"})["id"], "a")

    def test_a_forked_child_does_not_write_into_the_connection_of_its_parent(self):
        self.transport.call("POST", START, {"id": "a"})
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if self.transport.call("POST", START, {"id": "child"})["id"] == "child" else 1
            finally:
                os._exit(code)
        self.assertEqual(self.transport.call("POST", START, {"id": "parent"})["id"], "parent")
        self.assertEqual(os.waitpid(pid, 0)[1], 0)


class TestRefusals(TransportCase):
    def test_a_refusal_says_reason_hint_and_details(self):
        with self.assertRaises(ServiceError) as caught:
            self.transport.upload("POST", "/workspaces/ws/runs/r/log", b"x", {"name": "o", "offset": 5})
        error = caught.exception
        self.assertEqual((error.reason, error.status, error.details, error.hint), ("run.log-offset", 409, {"offset": 0}, "Hint."))

    def test_a_redirect_is_not_followed(self):
        self.faults("redirect")
        with self.assertRaisesRegex(ServiceError, "redirect, which is never followed"):
            self.transport.call("GET", "/workspaces/ws/runs/a/logs")

    def test_no_message_shows_the_token_or_credentials_in_an_address(self):
        messages = []
        for transport in (
            Transport("http://127.0.0.1:1", TOKEN, attempts=1),
            Transport("http://me:secret@127.0.0.1:1", TOKEN, attempts=1),
            Transport(self.server.url, TOKEN + "\r\nX-Evil: 1", attempts=1),
        ):
            with self.assertRaises((Unreachable, ServiceError)) as caught:
                transport.call("GET", "/server")
            messages.append(str(caught.exception) + repr(caught.exception.args))
        with self.assertRaises(ValueError) as caught:
            Transport("ftp://me:secret@host")
        messages.append(str(caught.exception))
        for message in messages:
            self.assertNotIn("secret", message)
            self.assertNotIn(TOKEN, message)

    def test_fields_of_a_path_cannot_leave_their_place(self):
        self.assertEqual(path_of("/runs/{run}", run="../a b?x#ü"), "/runs/..%2Fa%20b%3Fx%23%C3%BC")
        self.assertEqual(query_of({"a": [1, "x y"], "b": True, "c": None, "d": "&="}), "a=1&a=x+y&b=true&d=%26%3D")


class _Proxy(http.server.BaseHTTPRequestHandler):
    """Forwards by CONNECT and by whole addresses, for those who sign in."""

    protocol_version = "HTTP/1.1"
    seen = None

    def permitted(self):
        self.seen.append(self.command + " " + self.path)
        return self.headers.get("Proxy-Authorization") == "Basic bWU6cGFzcw=="

    def do_CONNECT(self):
        if not self.permitted():
            return self.send_error(407)
        port = int(self.path.split(":")[1])
        with socket.create_connection(("127.0.0.1", port)) as other:  # this proxy knows all names
            self.send_response(200)
            self.end_headers()
            pumps = [threading.Thread(target=self.pump, args=pair) for pair in ((self.connection, other), (other, self.connection))]
            for thread in pumps:
                thread.start()
            for thread in pumps:
                thread.join()

    @staticmethod
    def pump(source, target):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def do_GET(self):
        if not self.permitted():
            return self.send_error(407)
        body = b'{"by": "proxy"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@unittest.skipUnless(shutil.which("openssl"), "certificates are made with openssl")
class TestTlsAndProxies(TransportCase):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.certificate = os.path.join(self.folder, "c.pem")
        key = os.path.join(self.folder, "k.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", self.certificate, "-days", "2",
             "-subj", "/CN=stellwerk.test", "-addext", "subjectAltName=DNS:stellwerk.test,IP:127.0.0.1"],
            check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self.server.http.socket = context.wrap_socket(self.server.http.socket, server_side=True)
        self.secure = "https://127.0.0.1:%d" % self.server.port

    def proxy(self):
        seen = []
        proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Proxy", (_Proxy,), {"seen": seen}))
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
        self.addCleanup(proxy.server_close)
        self.addCleanup(proxy.shutdown)
        address = "http://me:pass@127.0.0.1:%d" % proxy.server_address[1]
        for name in ("http_proxy", "https_proxy"):
            os.environ[name] = address
            self.addCleanup(os.environ.pop, name, None)
        return seen

    def test_a_certificate_is_trusted_by_text_or_file_and_no_other(self):
        with open(self.certificate) as file:
            text = file.read()
        for bundle in (text, self.certificate):
            transport = Transport(self.secure, TOKEN, bundle, attempts=1)
            self.assertEqual(transport.call("POST", START, {"id": "a"})["id"], "a")
            transport.close()
        with self.assertRaisesRegex(Unreachable, "certificate"):
            Transport(self.secure, TOKEN, attempts=1).call("GET", "/server")

    def test_proxies_of_the_environment_are_used_with_their_sign_in_but_not_for_this_machine(self):
        seen = self.proxy()
        transport = Transport("http://plain.test:81", TOKEN, attempts=1)
        self.assertEqual(transport.call("GET", "/server"), {"by": "proxy"})
        transport.close()
        self.assertEqual(seen, ["GET http://plain.test:81/api/v1/server"])
        transport = Transport(self.secure, TOKEN, self.certificate, attempts=1)
        self.assertEqual(transport.call("POST", START, {"id": "a"})["id"], "a")
        transport.close()
        self.assertEqual(len(seen), 1)

    def test_a_secure_server_is_reached_through_a_tunnel(self):
        seen = self.proxy()
        transport = Transport("https://stellwerk.test:%d" % self.server.port, TOKEN, self.certificate, attempts=1)
        self.assertEqual(transport.call("POST", START, {"id": "a"})["id"], "a")
        transport.close()
        self.assertEqual(seen, ["CONNECT stellwerk.test:%d" % self.server.port])


class _Pipe:
    """A socket that leads to a server, as a driver lays one; closed, it is gone with all that went over it."""

    def __init__(self, path, port):
        self.path, self.port, self.ends = path, port, []
        self.accepted = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(8)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                here = self.listener.accept()[0]
            except OSError:
                return
            self.accepted += 1
            there = socket.create_connection(("127.0.0.1", self.port))
            self.ends += [here, there]
            for pair in ((here, there), (there, here)):
                threading.Thread(target=_Proxy.pump, args=pair, daemon=True).start()

    def close(self):
        for end in [self.listener] + self.ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()


class TestSockets(TransportCase):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.link = os.path.join(self.folder, "relay")
        self.over = Transport("unix:" + self.link, TOKEN, attempts=3)
        self.addCleanup(self.over.close)

    def lay(self, name):
        pipe = _Pipe(os.path.join(self.folder, name), self.server.port)
        self.addCleanup(pipe.close)
        os.symlink(pipe.path, self.link + ".new")
        os.rename(self.link + ".new", self.link)
        return pipe

    def start(self, **options):
        return self.over.call("POST", START, {"id": "a"}, **options)["id"]

    def test_a_server_is_reached_by_a_socket_over_one_connection(self):
        pipe = self.lay("one")
        for _ in range(5):
            self.assertEqual(self.start(), "a")
        self.assertEqual(pipe.accepted, 1)
        self.assertEqual(self.server.requests[0][2], "Bearer " + TOKEN)
        self.assertEqual(self.over.url, "unix:" + self.link)

    def test_a_proxy_of_the_environment_has_no_say_in_it(self):
        os.environ["http_proxy"] = "http://127.0.0.1:1"
        self.addCleanup(os.environ.pop, "http_proxy")
        self.lay("one")
        self.assertEqual(self.start(), "a")

    def test_without_a_socket_or_behind_a_dead_one_the_server_is_unreachable(self):
        with self.assertRaisesRegex(Unreachable, "unix:"):
            self.start(attempts=1)
        self.lay("one").close()
        with self.assertRaises(Unreachable):
            self.start(attempts=1)

    def test_a_dead_socket_is_tried_again_and_the_new_one_found(self):
        pipe = self.lay("one")
        self.assertEqual(self.start(), "a")
        pipe.close()
        threading.Timer(0.3, self.lay, ["two"]).start()
        self.assertEqual(self.start(attempts=10), "a")

    def test_a_connection_is_not_used_again_once_there_is_another_socket(self):
        first = self.lay("one")
        self.assertEqual(self.start(), "a")
        second = self.lay("two")
        self.assertEqual(self.start(), "a")
        self.assertEqual((first.accepted, second.accepted), (1, 1))


class TestSlowServers(TransportCase):
    def test_a_server_that_never_answers_is_given_up(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(1)
            with self.assertRaises(Unreachable):
                Transport("http://127.0.0.1:%d" % silent.getsockname()[1], TOKEN).call("GET", "/server", timeout=0.5, attempts=1)


if __name__ == "__main__":
    unittest.main()
