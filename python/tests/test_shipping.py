"""What is shipped, and what is done with what a server does not take."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

from fake_server import FakeServer

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src"))

from stellwerk._run_folder import RunFolder  # noqa: E402
from stellwerk._transport import Transport  # noqa: E402
from stellwerk.runner.delivery import NotDelivered, Patience, ship_everything  # noqa: E402
from stellwerk.runner.rank_files import RankFiles  # noqa: E402
from stellwerk.runner.shipping import Shipper  # noqa: E402


class ShippingCase(unittest.TestCase):
    def setUp(self):
        self.server = FakeServer()
        self.addCleanup(self.server.stop)
        self.transport = Transport(self.server.url, "t", attempts=1)
        self.addCleanup(self.transport.close)
        self.place = tempfile.mkdtemp(prefix="stellwerk ü ")
        self.addCleanup(shutil.rmtree, self.place)
        self.id = "läuf 1%2F?#x"
        self.folder = RunFolder.create(self.place, id=self.id, workspace="ws", experiment="e")
        self.addCleanup(self.folder.journal.close)
        self.told = []

    def shipper(self, created=False):
        return Shipper(self.transport, self.folder, self.told.append, created=created)

    def ship(self, shipper=None):
        ship_everything(shipper or self.shipper(), Patience(self.told.append, 10.0))

    def values(self, name="x"):
        return [entry[2] for entry in self.server.entries(self.id) if entry[:2] == ["m", name]]

    def write_raw(self, data):
        with open(self.folder.main_file, "ab") as file:
            file.write(data)


class TestShipping(ShippingCase):
    def test_shipping_again_from_the_beginning_doubles_nothing(self):
        for i in range(5000):
            self.folder.journal.log("x", float(i))
        self.ship()
        self.folder.journal.log("x", 5000.0)
        self.ship()
        self.ship()
        self.assertEqual(self.values(), [float(i) for i in range(5001)])

    def test_a_torn_line_harms_neither_the_lines_before_nor_those_after(self):
        for torn in (b'["m","x",', b'["m","x",1', b"[", b'["m","a long name of a series",0.1234,', b"\xff\xfe" * 20):
            self.folder.journal.log("x", 1.0)
            self.folder.journal.close()
            self.write_raw(torn)
            self.folder._journal = None
            self.folder.journal.log("x", 2.0)
        self.ship()
        self.assertEqual(self.values(), [1.0, 2.0] * 5)

    def test_what_each_of_several_processes_left_comes_too_whenever_it_begins(self):
        files = RankFiles(self.place)
        shipper = self.shipper()
        shipper.add_logs({}, {"rank-1.txt": 0}, files)
        self.ship(shipper)
        os.makedirs(files.folder)
        for path, text in ((files.log(1), "of rank 1\n"), (files.samples(1), '["u","node1.cpus",2.5,1.0]\n'), (files.total(1), "{}")):
            with open(path, "w") as file:
                file.write(text)
        self.ship(shipper)
        self.assertIn(["u", "node1.cpus", 2.5, 1.0], self.server.entries(self.id))
        self.assertEqual(self.server.log(self.id, "rank-1.txt"), "of rank 1\n")

    def test_a_torn_line_at_the_end_is_no_reason_to_wait(self):
        self.folder.journal.log("x", 1.0)
        self.write_raw(b'["m","x"')
        self.ship()
        self.assertEqual(self.values(), [1.0])
        self.write_raw(b"\n")
        shipper = self.shipper(created=True)
        self.ship(shipper)
        self.folder.journal.log("x", 2.0)
        self.ship(shipper)
        self.assertEqual(self.values(), [1.0, 2.0])

    def test_entries_that_the_server_refuses_are_told_and_passed_over(self):
        self.server.refuse_line = lambda entry: entry[1] == "bad"
        for i in range(300):
            self.folder.journal.log("bad" if i % 97 == 5 else "x", float(i))
        shipper = self.shipper()
        self.ship(shipper)
        self.assertEqual(len(self.values()), 296)
        self.assertEqual(shipper.refused, 4)
        self.assertIn("was refused", self.told[0])

    def test_a_staged_file_that_is_gone_does_not_hold_up_the_others(self):
        path = os.path.join(self.place, "a.bin")
        for name in ("one", "two"):
            with open(path, "w") as file:
                file.write(name)
            digest = self.folder.journal.stage(path, name)
            if name == "one":
                os.unlink(self.folder.file(os.path.join("files", digest[7:])))
        self.ship()
        self.assertEqual(list(self.server.run(self.id)["files"]), ["two"])

    def test_the_same_content_staged_under_two_names_arrives_under_both(self):
        path = os.path.join(self.place, "a.bin")
        with open(path, "w") as file:
            file.write("content")
        for name in ("one", "two", "one"):
            self.folder.journal.stage(path, name)
        self.ship()
        self.assertEqual(sorted(self.server.run(self.id)["files"]), ["one", "two"])
        self.assertEqual(os.listdir(self.folder.file("files")), [])

    def test_parents_are_recorded_before_their_children_however_deep(self):
        folder = self.folder
        for _ in range(30):
            folder = folder.child()
            folder.journal.log("deep", 1)
            folder.journal.end("completed")
            folder.journal.close()
        self.ship()
        self.assertEqual(len(self.server.runs), 31)

    def test_what_a_server_never_takes_is_given_up_after_a_while_and_kept(self):
        self.folder.journal.log("x", 1.0)
        self.server.fault = lambda method, path: "busy"
        with self.assertRaises(NotDelivered):
            ship_everything(self.shipper(), Patience(self.told.append, 0.5))
        self.server.fault = lambda method, path: None
        self.ship()
        self.assertEqual(self.values(), [1.0])

    def test_random_faults_and_restarts_of_the_shipper_lose_and_double_nothing(self):
        rng = random.Random(11)
        self.server.fault = lambda method, path: rng.choice([None, None, None, "cut", "lost", "busy", "cut half"])
        written = 0
        shipper = self.shipper()
        for _ in range(60):
            for _ in range(rng.randint(0, 200)):
                self.folder.journal.log("x", float(written))
                written += 1
            if rng.random() < 0.2:
                shipper = self.shipper()
            for work in (shipper.ship_journals, shipper.ship_files):
                try:
                    work()
                except Exception as error:
                    self.assertIn(type(error).__name__, ("Unreachable", "ServiceError"))
        self.server.fault = lambda method, path: None
        self.ship(shipper)
        self.assertEqual(self.values(), [float(i) for i in range(written)])

    def test_a_quarter_of_a_million_points_are_shipped(self):
        line = b'["m","x",0.123456789,123456,1763915000.123]\n'
        self.write_raw(line * 250_000)
        self.ship()
        self.assertEqual(len(self.server.run(self.id)["journals"]["main"]), len(line) * 250_000)

    def test_a_process_that_only_has_the_folder_can_ship_it(self):
        self.folder.journal.log("x", 7.0)
        script = (
            "import sys; from stellwerk._run_folder import RunFolder; from stellwerk._transport import Transport\n"
            "from stellwerk.runner.shipping import Shipper; from stellwerk.runner.delivery import Patience, ship_everything\n"
            "ship_everything(Shipper(Transport(sys.argv[2]), RunFolder(sys.argv[1]), print, created=False), Patience(print))"
        )
        subprocess.run([sys.executable, "-c", script, self.place, self.server.url], env=dict(os.environ, PYTHONPATH=sys.path[0]), check=True)
        self.assertEqual(self.values(), [7.0])
        self.assertEqual(json.load(open(os.path.join(self.place, "run.json")))["id"], self.id)


if __name__ == "__main__":
    unittest.main()
