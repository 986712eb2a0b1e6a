"""What a script leaves in its working directory is collected, and nothing that only a link leads to."""

import os
import shutil
import sys
import tempfile
import unittest

from fake_server import FakeServer

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src"))

from stellwerk._transport import Transport  # noqa: E402
from stellwerk.runner.outputs import Outputs  # noqa: E402


class OutputsTest(unittest.TestCase):
    def test_a_link_that_leads_out_of_the_working_directory_is_told_and_not_followed(self):
        server = FakeServer()
        self.addCleanup(server.stop)
        transport = Transport(server.url, "token-abc")
        self.addCleanup(transport.close)
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        work = os.path.join(folder, "work")
        os.makedirs(os.path.join(work, "outputs"))
        for place in (os.path.join(folder, "secret"), os.path.join(work, "outputs", "a")):
            with open(place, "w", encoding="utf-8") as file:
                file.write("x")
        os.symlink("a", os.path.join(work, "outputs", "inside"))
        os.symlink(os.path.join(folder, "secret"), os.path.join(work, "outputs", "outside"))
        os.symlink(folder, os.path.join(work, "outputs", "folder"))
        told = []
        Outputs(transport, "ws", "r", None, work, told.append).collect()
        self.assertEqual(["outputs/a", "outputs/inside"], sorted(server.runs["r"]["files"]))
        self.assertRegex("\n".join(told), "'outputs/outside' cannot be collected: it is a link that leads out")


if __name__ == "__main__":
    unittest.main()
