"""The journal: what may be logged, by threads and forks, on a full disk; and how quickly."""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src"))

from stellwerk._journal import Journal  # noqa: E402
from stellwerk._run_folder import RunFolder  # noqa: E402

SOURCE = sys.path[0]


class JournalCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="stellwerk ü ")
        self.addCleanup(shutil.rmtree, self.folder)
        self.journal = Journal(os.path.join(self.folder, "run"))
        self.addCleanup(self.journal.close)

    def entries(self, name="journal.jsonl"):
        with open(os.path.join(self.folder, "run", name), encoding="utf-8") as file:
            return [json.loads(line) for line in file]


class Scalar:
    """Like a scalar of numpy or torch."""

    def __init__(self, value):
        self.value = value

    def item(self):
        return self.value


class Array(Scalar):
    def item(self):
        raise ValueError("can only convert an array of size 1")

    def tolist(self):
        return self.value


class TestEntries(JournalCase):
    def test_numbers_are_points_and_not_finite_ones_are_text(self):
        for value in (1, 0.5, float("nan"), math.inf, -math.inf, 10**400, Scalar(2.5)):
            self.journal.log("x", value, 3)
        entries = self.entries()
        self.assertEqual([entry[2] for entry in entries], [1, 0.5, "NaN", "Infinity", "-Infinity", "Infinity", 2.5])
        self.assertEqual({(entry[0], entry[1], entry[3]) for entry in entries}, {("m", "x", 3)})
        self.assertAlmostEqual(entries[0][4], time.time(), delta=5)

    def test_text_truth_values_nothing_and_arrays_are_lists(self):
        for value in ("text", True, None, Array([1, 2])):
            self.journal.log("x", value)
        self.assertEqual([entry[:3] for entry in self.entries()], [["l", "x", v] for v in (["text"], [True], [None], [1, 2])])

    def test_names_keep_their_letters_and_are_cut_at_the_limit_that_the_server_counts(self):
        self.journal.log('quote " and ü\n', 1.0)
        self.journal.log("\U0001d11e" * 200, 1.0)
        names = [entry[1] for entry in self.entries()]
        self.assertEqual(names[0], 'quote " and ü\n')
        self.assertLessEqual(len(names[1].encode("utf-16-le")) // 2, 255)

    def test_long_lists_and_tables_are_split(self):
        self.journal.log_list("l", list(range(25_000)))
        self.journal.log_table("t", {"a": ["x" * 200] * 9_000, "b": range(9_000)})
        entries = self.entries()
        self.assertEqual(sum([entry[2] for entry in entries if entry[0] == "l"], []), list(range(25_000)))
        tables = [entry[2] for entry in entries if entry[0] == "t"]
        self.assertGreater(len(tables), 1)
        self.assertEqual(sum([table["b"] for table in tables], []), list(range(9_000)))
        with open(os.path.join(self.folder, "run", "journal.jsonl"), "rb") as file:
            self.assertLessEqual(max(map(len, file)), 1024 * 1024)

    def test_rows_objects_tags_properties_and_parameters_have_their_entries(self):
        self.journal.log_row("r", {"a": 1, "b": float("nan")}, 2)
        self.journal.log_confusion_matrix("c", '{"schema_type": "confusion_matrix", "data": {"matrix": [[1]]}}')
        self.journal.tag("k", 5)
        self.journal.tag("gone", None)
        self.journal.add_properties({"p": "v"})
        self.journal.param("alpha", Scalar(0.1))
        self.journal.display_name("n")
        self.journal.end("failed", "why")
        entries = self.entries()
        self.assertEqual(entries[0][:4], ["r", "r", {"a": 1, "b": "NaN"}, 2])
        self.assertEqual(entries[1][:4], ["o", "c", "confusion_matrix", {"schema_type": "confusion_matrix", "data": {"matrix": [[1]]}}, None][:4])
        self.assertAlmostEqual(entries[-1].pop(), time.time(), delta=60)
        self.assertEqual(
            entries[2:],
            [["tag", "k", "5"], ["tag", "gone", None], ["prop", "p", "v"], ["param", "alpha", 0.1], ["name", "n"], ["state", "failed", "why"]],
        )

    def test_a_picture_becomes_a_file_of_the_run_and_an_entry(self):
        class Figure:
            def savefig(self, path):
                with open(path, "wb") as file:
                    file.write(b"png")

        target = self.journal.log_image("loss/curve", plot=Figure())
        self.assertEqual(self.entries()[0][2:4], ["image", {"path": target}])
        kind, path, digest, size = self.entries("files.jsonl")[0]
        self.assertEqual((kind, path, size), ("file", target, 3))

    def test_a_staged_file_is_a_copy_that_later_changes_do_not_touch(self):
        source = os.path.join(self.folder, "model.bin")
        with open(source, "wb") as file:
            file.write(b"first")
        digest = self.journal.stage(source, "outputs/model.bin")
        with open(source, "r+b") as file:
            file.write(b"other")
        with open(os.path.join(self.folder, "run", "files", digest[7:]), "rb") as file:
            self.assertEqual(file.read(), b"first")
        with self.assertRaises(ValueError):
            self.journal.stage(source, "../outside")

    def test_a_very_large_object_becomes_a_file(self):
        self.journal.log_predictions("p", {"data": ["x" * 100] * 20_000})
        entry = self.entries()[0]
        self.assertEqual(self.entries("files.jsonl")[0][1], entry[3]["path"])

    def test_children_lie_beside_each_other_and_name_their_parents(self):
        root = RunFolder.create(os.path.join(self.folder, "root"), id="r", workspace="w", experiment="e")
        child = root.child(displayName="fold")
        grandchild = child.child()
        self.assertEqual((grandchild.record["parent"], grandchild.root), (child.id, root.path))
        self.assertEqual({run.id for run in root.children()}, {child.id, grandchild.id})


class TestTogether(JournalCase):
    def test_threads_and_forked_processes_write_whole_lines(self):
        self.journal.log("x", 0.0)
        children = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                for i in range(3000):
                    self.journal.log("fork", float(i), i)
                os._exit(0)
            children.append(pid)
        threads = [threading.Thread(target=lambda: [self.journal.log("thread", "text %d" % i) for i in range(3000)]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for pid in children:
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.assertEqual(len(self.entries()), 1 + 6 * 3000)

    def test_a_full_disk_is_told_once_counted_and_training_goes_on(self):
        script = """
import resource, sys
from stellwerk._journal import Journal
journal = Journal(sys.argv[1])
journal.log("before", 1.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for i in range(100):
    journal.log("a quite long name", float(i), i)
dropped = journal.dropped
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.log("after", 2.0)
journal.log("after", 3.0)
print(dropped)
"""
        done = subprocess.run(
            [sys.executable, "-c", script, os.path.join(self.folder, "run")], env=dict(os.environ, PYTHONPATH=SOURCE),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.decode().count("could not be written to"), 2)  # at first, and in the end with the count
        with open(os.path.join(self.folder, "run", "journal.jsonl"), "rb") as file:
            lines = file.read().splitlines()
        whole = []
        for line in lines:
            try:
                whole.append(json.loads(line.decode()))
            except ValueError:
                pass
        self.assertLessEqual(len(lines) - len(whole), 1)  # one line may be torn
        self.assertEqual([entry[2] for entry in whole if entry[1] == "after"], [2.0, 3.0])
        self.assertIn(["tag", "stellwerk.dropped", done.stdout.decode().strip()], whole)
        logged = len([entry for entry in whole if entry[1] == "a quite long name"])
        self.assertEqual(logged + int(done.stdout), 100)


if __name__ == "__main__":
    unittest.main()
