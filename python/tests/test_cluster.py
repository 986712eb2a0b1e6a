"""What is particular to clusters: the relay by which compute nodes reach a server, the folder of a job, the place of a process among several."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from fake_server import FakeServer

SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
sys.path.insert(0, SOURCES)

from stellwerk._shared_folder import SharedFolder  # noqa: E402
from stellwerk._transport import ServiceError, Transport, Unreachable  # noqa: E402
from stellwerk.core.compute import RemoteAttachConfiguration, SlurmCompute  # noqa: E402
from stellwerk.runner.rank import hosts_of, place_of  # noqa: E402
from stellwerk.runner.rank_files import RankFiles  # noqa: E402

ENV = dict(os.environ, PYTHONPATH=SOURCES)


def until(what):
    for _ in range(400):
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come")


class OfRelays:
    """What holds for both ways."""

    def setUp(self):
        self.server = FakeServer()
        self.addCleanup(self.server.stop)
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.file = os.path.join(self.folder, "relay.json")
        self.socket = os.path.join(self.folder, "socket")
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(self.socket)
        self.listening.listen(8)
        self.addCleanup(self.listening.close)
        threading.Thread(target=self.lead_on, daemon=True).start()

    def lead_on(self):
        """As sshd does with what comes to its socket."""
        host, port = self.server.url.split("//")[1].split(":")
        while True:
            try:
                there = self.listening.accept()[0]
            except OSError:
                return
            end = socket.create_connection((host, int(port)))
            for one, other in ((there, end), (end, there)):
                threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    @staticmethod
    def pump(one, other):
        try:
            for data in iter(lambda: one.recv(65536), b""):
                other.sendall(data)
        except OSError:
            pass
        try:
            other.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def relay(self):
        command = [sys.executable, "-S", "-m", "stellwerk.runner.login_relay", self.file, self.socket, *self.way]
        relay = subprocess.Popen(command, env=ENV, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(relay.stdout.close)
        self.addCleanup(relay.wait)
        self.addCleanup(relay.kill)
        self.told = relay.stdout.readline().strip().decode()
        self.assertTrue(self.told)
        return relay

    def transport(self):
        made = Transport("relay:" + self.file, "t", attempts=1, timeout=10)
        self.addCleanup(made.close)
        return made

    def heard(self, transport):
        """The server itself answers: that it knows no such thing."""
        with self.assertRaises(ServiceError):
            transport.call("GET", "/nothing-of-that-kind")

    def test_carries_what_is_said_and_ends_with_its_input(self):
        relay = self.relay()
        self.assertEqual(stat.S_IMODE(os.stat(self.file).st_mode), 0o600)
        transport = self.transport()
        for _ in range(3):
            self.heard(transport)
        relay.stdin.close()
        self.assertEqual(relay.wait(10), 0)
        self.assertFalse(os.path.exists(self.file))
        with self.assertRaises(Unreachable):
            transport.call("GET", "/server")

    def test_a_newer_relay_is_used_at_once_and_stays_when_the_older_one_ends(self):
        first = self.relay()
        transport = self.transport()
        self.heard(transport)
        self.relay()
        self.heard(transport)
        first.stdin.close()
        first.wait(10)
        self.assertTrue(os.path.exists(self.file))
        self.heard(transport)


@unittest.skipUnless(sys.platform.startswith("linux"), "clusters run Linux")
class TestRelay(OfRelays, unittest.TestCase):
    way = ("--host", "127.0.0.1")

    def test_whoever_does_not_know_the_secret_is_cut_off_on_either_side(self):
        self.relay()
        with open(self.file) as file:
            address = json.load(file)
        with socket.create_connection(("127.0.0.1", address["port"]), 5) as stranger:
            stranger.recv(100)
            stranger.sendall(b"ab " + address["secret"].encode() + b"\nGET /api/v1/server HTTP/1.0\r\n\r\n")
            self.assertEqual(stranger.recv(100), b"")
        false = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(false.close)
        heard = []

        def pretend():
            there = false.accept()[0]
            there.sendall(b"ab" * 16 + b"\n")
            heard.append(there.recv(1000))
            there.sendall(b"00" * 32 + b"\n")
            heard.append(there.recv(1000))

        threading.Thread(target=pretend, daemon=True).start()
        with open(self.file, "w") as file:
            json.dump(dict(address, port=false.getsockname()[1]), file)
        with self.assertRaises(Unreachable):
            self.transport().call("GET", "/server")
        until(lambda: len(heard) == 2)
        self.assertNotIn(address["secret"].encode(), heard[0])
        self.assertEqual(heard[1], b"")


@unittest.skipUnless(sys.platform.startswith("linux"), "clusters run Linux")
class TestSharedFolder(OfRelays, unittest.TestCase):
    way = ("--folder",)

    def test_lies_where_its_user_alone_comes_and_is_gone_with_its_relay(self):
        relay = self.relay()
        with open(self.file) as file:
            path = json.load(file)["folder"]
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o700)
        transport = self.transport()
        self.heard(transport)
        transport.close()
        until(lambda: os.listdir(path) == [])
        relay.kill()
        relay.wait()
        self.relay()
        self.assertFalse(os.path.exists(path))
        self.heard(self.transport())

    def test_many_connections_pass_side_by_side_and_little_lies_there(self):
        path = tempfile.mkdtemp(dir=self.folder)
        echo = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(echo.close)

        def answer():
            while True:
                try:
                    there = echo.accept()[0]
                except OSError:
                    return
                threading.Thread(target=self.pump, args=(there, there), daemon=True).start()

        threading.Thread(target=answer, daemon=True).start()
        SharedFolder(path, lambda: socket.create_connection(echo.getsockname()))
        near = SharedFolder(path)
        most = []

        def said(size):
            with near.connect() as there:
                content = os.urandom(size)
                threading.Thread(target=lambda: (there.sendall(content), there.shutdown(socket.SHUT_WR)), daemon=True).start()
                heard = bytearray()
                for data in iter(lambda: there.recv(65536), b""):
                    most.append(len(os.listdir(path)))
                    heard += data
                return heard == content

        with ThreadPoolExecutor(8) as pool:
            self.assertEqual(list(pool.map(said, [20_000_000, *range(50)])), [True] * 51)
        self.assertLess(max(most), 8 * 2 * 10)
        until(lambda: os.listdir(path) == [])

    def test_whoever_cannot_be_led_on_or_finds_no_folder_is_told(self):
        def nowhere():
            raise ConnectionRefusedError

        path = tempfile.mkdtemp(dir=self.folder)
        SharedFolder(path, nowhere)
        near = SharedFolder(path)
        with near.connect() as there:
            there.sendall(b"anybody?")
            self.assertEqual(there.recv(10), b"")
        # One of them may still be writing that this is the end.
        until(lambda: shutil.rmtree(path, ignore_errors=True) or not os.path.exists(path))
        with self.assertRaises(ConnectionRefusedError):
            near.connect()


@unittest.skipUnless(sys.platform.startswith("linux"), "clusters run Linux")
class TestFolder(unittest.TestCase):
    def setUp(self):
        above = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, above, True)
        self.folder = os.path.join(above, "job")

    def ask(self, what, given=None):
        command = [sys.executable, "-S", "-m", "stellwerk.runner.login_node", what, self.folder]
        done = subprocess.run(command, env=ENV, input=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_is_placed_once_for_the_job_that_took_it_up_and_cleaned_twice(self):
        first, second = (json.dumps({"job": {"token": token}, "script": "echo %s\n" % token}) for token in ("one", "two"))
        self.assertEqual(self.ask("place", first), {"there": True, "job": None, "tail": []})
        self.assertEqual([stat.S_IMODE(os.stat(path).st_mode) for path in (self.folder, self.folder + "/job.json")], [0o700, 0o600])
        with open(self.folder + "/jobid", "w") as file:
            file.write("17\n")
        with open(self.folder + "/runner.log", "w") as file:
            file.write("no such module\n")
        self.assertEqual(self.ask("place", second), {"there": True, "job": "17", "tail": ["no such module"]})
        with open(self.folder + "/job.json") as file:
            self.assertEqual(json.load(file), {"token": "one"})
        for _ in range(2):
            self.assertEqual(self.ask("clean"), {"there": False, "job": None, "tail": []})
        self.assertEqual(self.ask("recover"), {"there": False, "job": None, "tail": []})


class TestPlaceOfARank(unittest.TestCase):
    def test_is_told_by_slurm_or_by_open_mpi(self):
        slurm = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "7"}
        place = place_of(slurm, ["a", "b"])
        self.assertEqual([place[name] for name in ("MASTER_ADDR", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK")], ["a", "3", "4", "1", "2", "1"])
        cluster = json.loads(place["TF_CONFIG"])
        self.assertEqual(cluster["task"], {"type": "worker", "index": 3})
        self.assertEqual([worker.split(":")[0] for worker in cluster["cluster"]["worker"]], ["a", "a", "b", "b"])
        self.assertEqual(len(set(cluster["cluster"]["worker"])), 4)
        pods = {"STELLWERK_RANK": "1", "STELLWERK_RANKS": "2", "STELLWERK_HOSTS": "10.0.0.1,10.0.0.2"}
        of_pod = place_of(pods, hosts_of(pods))
        self.assertEqual((of_pod["MASTER_ADDR"], of_pod["RANK"], of_pod["WORLD_SIZE"], of_pod["NODE_RANK"]), ("10.0.0.1", "1", "2", "1"))
        mpi = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}
        other = place_of(dict(slurm, **mpi), ["a", "b"])
        self.assertEqual((other["RANK"], other["WORLD_SIZE"], other["LOCAL_RANK"], other["NODE_RANK"]), ("1", "2", "0", "1"))
        self.assertEqual(other["MASTER_PORT"], place["MASTER_PORT"])
        self.assertNotEqual(place_of(dict(slurm, SLURM_JOB_ID="8"), ["a", "b"])["MASTER_PORT"], place["MASTER_PORT"])
        self.assertEqual(place_of({}, []), {})


_PRINTS = """
import os, signal, subprocess, sys
print("rank", os.environ["RANK"], "knows", "tell" + "tale", flush=True)
print("and errs", file=sys.stderr, flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGUSR1) if "dies" in sys.argv else sys.exit(7)
"""


@unittest.skipUnless(sys.platform.startswith("linux"), "clusters run Linux")
class TestRank(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder, True)
        with open(os.path.join(self.folder, "job.json"), "w") as file:
            json.dump({"secrets": {"TOLD": "telltale"}, "vaultSecrets": {}, "resources": {}}, file)

    def start(self, *arguments, rank="2"):
        env = dict(ENV, STELLWERK_RANK=rank, STELLWERK_RANKS="3", STELLWERK_HOSTS="a,b,c", STELLWERK_RUN_FOLDER=os.path.join(self.folder, "run"), STELLWERK_RANK_PYTHONPATH=SOURCES)
        command = [sys.executable, "-S", "-m", "stellwerk.runner.rank", sys.executable, "-c", _PRINTS, *arguments]
        rank = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True)
        for end in (rank.wait, rank.kill, rank.stdin.close, rank.stdout.close):
            self.addCleanup(end)
        return rank

    def file(self, name):
        path = os.path.join(self.folder, "ranks", name)
        if not os.path.exists(path):
            return ""
        with open(path) as file:
            return file.read()

    def test_prints_where_all_print_and_into_a_log_of_its_own_and_samples_its_node(self):
        rank = self.start()
        until(lambda: "node2.memoryBytes" in self.file("node-2.jsonl"))
        rank.send_signal(15)  # goes to all processes of the rank; which end, the program decides
        out, _ = rank.communicate("\n")
        self.assertEqual((rank.returncode, out), (7, "rank 2 knows ***\nand errs\n"))
        self.assertEqual(self.file("rank-2.txt"), out)
        self.assertGreater(json.loads(self.file("node-2.json"))["peakMemoryBytes"], 1_000_000)
        files = RankFiles(self.folder)
        self.assertEqual(files.found(), (["rank-2.txt"], ["node-2.jsonl"]))
        self.assertGreater(files.finish()["peakMemoryBytes"], 1_000_000)

    def test_ends_as_its_program_does_and_never_without_it(self):
        rank = self.start("dies", rank="0")
        until(lambda: '"memoryBytes"' in self.file("node-0.jsonl"))
        rank.communicate("\n")
        self.assertEqual(rank.returncode, -10)
        other = self.start()
        other.stdout.readline()
        other.kill()
        self.assertEqual(other.stdout.read().replace("and errs\n", ""), "")  # its program has ended, too: nobody holds the output open

    def test_runs_its_program_where_there_is_no_folder_of_the_job(self):
        os.unlink(os.path.join(self.folder, "job.json"))
        out, _ = self.start().communicate("\n")
        self.assertIn("rank 2 knows telltale\n", out)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "ranks")))


class TestAttachConfiguration(unittest.TestCase):
    def test_a_cluster_is_attached_with_the_settings_of_its_kind(self):
        made = SlurmCompute.attach_configuration("ada", "login.example.org", password="p", partition="gpu", setUp=["module load python"], account=None)
        self.assertIsInstance(made, RemoteAttachConfiguration)
        kept = {}

        class Workspace:
            name = "ws"

            class client:
                class secrets:
                    set = staticmethod(lambda workspace, name, value: kept.update({name: value}))

        settings = {"kind": "slurm", "user": "ada", "address": "login.example.org", "port": 22, "partition": "gpu", "setUp": ["module load python"]}
        self.assertEqual(made.kept(Workspace, "cluster"), dict(settings, password="cluster-password"))
        self.assertEqual(kept, {"cluster-password": "p"})
        self.assertNotIn("'p'", repr(made))


if __name__ == "__main__":
    unittest.main()
