"""What scripts print: masking, progress bars, broken encodings, floods."""

import os
import random
import resource
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src"))

from stellwerk.runner.output import Capture, Lines, Log, Masker, last_lines  # noqa: E402


def pieces(data, rng):
    while data:
        size = rng.randint(1, 7)
        yield data[:size]
        data = data[size:]


class TestMasker(unittest.TestCase):
    def test_secrets_are_masked_wherever_the_stream_is_cut(self):
        rng = random.Random(3)
        text = "a top-secret b top-secretive c ünïcödé d\nline one of key\nline two of key\n top-secre t-secret".encode()
        secrets = ["top-secret", "top-secretive", "ünïcödé", "line one of key\nline two of key"]
        for _ in range(300):
            masker = Masker(secrets)
            masked = b"".join([masker.feed(piece) for piece in pieces(text, rng)]) + masker.flush()
            self.assertEqual(masked, b"a *** b *** c *** d\n***\n top-secre t-secret")

    def test_lines_of_a_secret_of_several_lines_are_masked_alone_too(self):
        masker = Masker(["-----BEGIN KEY-----\nabcdefghij\n"])
        self.assertEqual(masker.feed(b"abcdefghij\n") + masker.flush(), b"***\n")


class TestLines(unittest.TestCase):
    def run_through(self, text, rng=None):
        lines = Lines()
        parts = pieces(text, rng) if rng else [text]
        return "".join([lines.feed(part) for part in parts]) + lines.flush()

    def test_a_progress_bar_leaves_its_last_state(self):
        bar = "".join("\r%3d%%|%s" % (i, "#" * (i // 10)) for i in range(101))
        self.assertEqual(self.run_through("start\n" + bar + "\nend\n"), "start\n100%|##########\nend\n")

    def test_it_does_not_matter_where_the_stream_is_cut(self):
        rng = random.Random(5)
        text = "plain\r\nnext\n" + "\r1%\r2%\r99%\r100%\n" + "overwritten\rshown\r\n\n" + "no end"
        for _ in range(300):
            self.assertEqual(self.run_through(text, rng), "plain\nnext\n100%\nshown\n\nno end")

    def test_a_bar_that_goes_on_for_long_is_shown_now_and_then(self):
        now = [0.0]
        lines = Lines(lambda: now[0])
        shown = ""
        for i in range(100):
            now[0] += 1.0
            shown += lines.feed("\r%d%%" % i) + lines.idle()
        shown += lines.feed("\rdone\n")
        self.assertEqual(shown, "14%\n29%\n44%\n59%\n74%\n89%\ndone\n")

    def test_a_line_without_end_becomes_visible_and_goes_on(self):
        lines = Lines()
        self.assertEqual(lines.feed("Loading ... ") + lines.idle() + lines.feed("done\n"), "Loading ... done\n")


class TestCapture(unittest.TestCase):
    def capture(self, write, secrets=(), largest=1 << 30):
        with tempfile.TemporaryDirectory() as folder:
            read_end, write_end = os.pipe()
            log = Log(os.path.join(folder, "logs", "output.txt"), largest)
            capture = Capture(read_end, log, secrets)
            capture.start()
            with os.fdopen(write_end, "wb", buffering=0) as pipe:
                write(pipe)
            capture.join()
            self.lines = last_lines(log.path, 3)
            log.close()
            with open(log.path, "rb") as file:
                return file.read()

    def test_what_is_not_utf8_is_replaced_and_the_rest_stays(self):
        text = "grün ".encode() + b"\xff\xfe broken" + "\u20ac".encode()[:2]
        self.assertEqual(self.capture(lambda pipe: pipe.write(text)).decode(), "grün \ufffd\ufffd broken\ufffd")

    def test_a_flood_without_line_ends_keeps_memory_flat(self):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        chunk = b"x" * 1_000_000

        def flood(pipe):
            for _ in range(100):
                pipe.write(chunk)

        self.assertEqual(len(self.capture(flood, ["secret"])), 100_000_000)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        self.assertLess(grown, 250_000)  # kB; the test itself reads the log

    def test_a_log_has_an_end(self):
        text = self.capture(lambda pipe: pipe.write(b"0123456789\n" * 50_000), largest=100_000)
        self.assertLess(len(text), 101_000)
        self.assertTrue(text.endswith(b"what follows is left out]\n"))

    def test_the_last_lines_are_those_of_the_failure(self):
        self.capture(lambda pipe: pipe.write(b"1\n2\n3\n4\n"))
        self.assertEqual(self.lines, ["2", "3", "4"])

    def test_writers_from_several_threads_lose_nothing(self):
        def write(pipe):
            threads = [threading.Thread(target=lambda: [pipe.write(b"line\n") for _ in range(2000)]) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        self.assertEqual(self.capture(write), b"line\n" * 8000)


if __name__ == "__main__":
    unittest.main()
