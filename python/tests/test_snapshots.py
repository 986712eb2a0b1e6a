"""Snapshots of directories, ignore files (checked against git itself), uploads and downloads that are cut."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from fake_server import FakeServer

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src"))

from stellwerk._downloads import download_datastore, download_run_file, download_snapshot  # noqa: E402
from stellwerk._git import git_state, without_credentials  # noqa: E402
from stellwerk._snapshots import SnapshotRefused, snapshot_of, upload_snapshot  # noqa: E402
from stellwerk._transport import StellwerkError, Transport  # noqa: E402
from stellwerk._uploads import PART_BYTES, put_run_file, upload_blob  # noqa: E402


class FolderCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="stellwerk mit Ümlaut ")
        self.addCleanup(shutil.rmtree, self.folder)
        self.cache = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.cache)
        os.environ["STELLWERK_CACHE_FOLDER"] = self.cache
        self.addCleanup(os.environ.pop, "STELLWERK_CACHE_FOLDER")

    def put(self, path, content=b"x"):
        place = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as file:
            file.write(content)
        return place

    def paths(self):
        return [file["path"] for file in snapshot_of(self.folder).files]


class TestListing(FolderCase):
    def test_files_are_listed_in_the_byte_order_of_their_names_with_the_executable_bit(self):
        os.chmod(self.put("b.py", b"print(1)\r\n"), 0o755)
        for name in ("a b/ü€.txt", "a b/𝄞", "a b/z"):
            self.put(name)
        listing = snapshot_of(self.folder)
        self.assertEqual([file["path"] for file in listing.files], ["a b/z", "a b/ü€.txt", "a b/𝄞", "b.py"])
        self.assertEqual([file.get("executable", False) for file in listing.files], [False, False, False, True])

    def test_ignore_files_are_obeyed_as_git_obeys_them(self):
        for path in ("train.py", "data/big.csv", "data/keep.csv", "logs/a.log", "sub/a.log", "sub/deep/b.log", "sub/b.tmp"):
            self.put(path)
        for path in (".git/config", "__pycache__/x.pyc", "sub/.stellwerk/config.json"):
            self.put(path)
        self.put(".gitignore", b"# no logs\r\n*.log\r\n/data/*\r\n!data/keep.csv\r\n")
        self.put("sub/.gitignore", b"!a.log\n*.tmp\n")
        self.assertEqual(self.paths(), [".gitignore", "data/keep.csv", "sub/.gitignore", "sub/a.log", "train.py"])
        self.put(".amlignore", b"train.py\n")
        self.assertIn("logs/a.log", self.paths())
        self.assertNotIn("train.py", self.paths())

    @unittest.skipUnless(shutil.which("git"), "git itself is the judge")
    def test_random_patterns_mean_what_they_mean_to_git(self):
        rng = random.Random(3)
        names = ["a", "b", "ab", "a.log", "foo bar", "[x]", "#c", "!d", "long.name.txt", "*"]
        files = ["/".join(rng.choice(names) for _ in range(rng.randint(1, 4))) for _ in range(80)]
        pieces = ["a", "b", "*", "?", "*.log", "[ab]", "[!a]", "[^b]*", "foo*", "\\#c", "\\!d", "\\*", "[[:alpha:]]", "[x", "ab", "a b", "[a-c]?"]
        subprocess.run(["git", "init", "-q", self.folder], check=True)
        for name in files:
            try:
                self.put(name)
            except OSError:
                continue  # it is a folder already
        self.put("deeper/a/b.log")
        self.put("deeper/c/d/a")

        def patterns():
            for _ in range(rng.randint(1, 5)):
                pattern = "/".join(
                    rng.choice(["**", "".join(rng.choice(pieces) for _ in range(rng.randint(1, 2)))] + pieces) for _ in range(rng.randint(1, 3))
                )
                yield rng.choice(["", "", "!", "/"]) + pattern + rng.choice(["", "", "/", "  ", "/**"])
                if rng.random() < 0.2:
                    yield "!*/"

        for _ in range(60):
            top, below = list(patterns()), list(patterns())
            self.put(".gitignore", ("\n".join(top) + "\n").encode())
            self.put("deeper/.gitignore", ("\n".join(below) + "\n").encode())
            command = ["git", "-C", self.folder, "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore"]
            listed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()
            self.assertEqual(sorted(self.paths()), sorted(name for name in listed.split("\0") if name), (top, below))

    def test_links_inside_are_followed_and_links_to_outside_refused(self):
        self.put("real/a.txt")
        os.symlink("real/a.txt", os.path.join(self.folder, "link.txt"))
        os.symlink("real", os.path.join(self.folder, "again"))
        self.assertEqual(self.paths(), ["again/a.txt", "link.txt", "real/a.txt"])
        os.symlink("/etc/hostname", os.path.join(self.folder, "out"))
        with self.assertRaisesRegex(SnapshotRefused, "'out' cannot be submitted: it is a link to outside"):
            self.paths()
        self.put(".gitignore", b"out\n")
        self.assertIn("link.txt", self.paths())
        os.symlink("..", os.path.join(self.folder, "real", "round"))
        with self.assertRaisesRegex(SnapshotRefused, "directory that it lies in"):
            self.paths()

    def test_too_much_is_refused_and_the_largest_files_are_named(self):
        self.put("small")
        self.put("weights.bin", b"y" * 5000)
        with self.assertRaisesRegex(SnapshotRefused, r"largest files: weights\.bin \(0\.0 MB\), small"):
            snapshot_of(self.folder, 4000)

    def test_an_unchanged_directory_of_ten_thousand_files_is_listed_again_and_a_change_in_place_is_noticed(self):
        for at in range(10_000):
            self.put("d%d/f%d" % (at % 100, at), b"%d" % at)
        time.sleep(2.1)  # until the times of change are settled
        first = snapshot_of(self.folder)
        self.assertEqual(snapshot_of(self.folder).digest, first.digest)
        place = os.path.join(self.folder, "d0/f0")
        status = os.stat(place)
        with open(place, "r+b") as file:
            file.write(b"1")
        os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))
        self.assertNotEqual(snapshot_of(self.folder).digest, first.digest)

    def test_whatever_changes_between_two_listings_the_second_is_that_of_the_files_as_they_are(self):
        rng = random.Random(11)
        names = ["a", "b", "sub/c", "sub/d"]
        for name in names:
            self.put(name, b"0000")
        long_ago = time.time_ns() - 3_600_000_000_000
        for _ in range(150):
            for name in rng.sample(names, rng.randint(0, 2)):
                place, content = os.path.join(self.folder, name), b"%04d" % rng.randint(0, 9)
                if rng.random() < 0.5:  # in place, of the same size; else another file in its stead
                    with open(place, "r+b") as file:
                        file.write(content)
                else:
                    self.put("new", content)
                    os.replace(os.path.join(self.folder, "new"), place)
                if rng.random() < 0.5:
                    os.utime(place, ns=(long_ago, long_ago))
            known = snapshot_of(self.folder).digest
            with tempfile.TemporaryDirectory() as empty:
                os.environ["STELLWERK_CACHE_FOLDER"] = empty
                self.assertEqual(known, snapshot_of(self.folder).digest)
            os.environ["STELLWERK_CACHE_FOLDER"] = self.cache


class TestTransfers(FolderCase):
    def setUp(self):
        super().setUp()
        self.server = FakeServer()
        self.addCleanup(self.server.stop)
        self.transport = Transport(self.server.url, "token-abc")
        self.addCleanup(self.transport.close)

    def test_a_snapshot_goes_up_once_and_comes_down_the_same(self):
        self.put("train.py", b"print(1)\r\n")
        os.chmod(self.put("sub dir/ü.sh", b"#!/bin/sh\n"), 0o755)
        self.put("big.bin", os.urandom(17 * 1024 * 1024))
        self.put("empty", b"")
        digest = upload_snapshot(self.transport, "ws", self.folder)
        self.assertEqual(self.server.missing(digest), [])
        self.server.requests.clear()
        self.assertEqual(upload_snapshot(self.transport, "ws", self.folder), digest)
        self.assertEqual(len(self.server.requests), 1)
        target = os.path.join(self.cache, "expanded")
        download_snapshot(self.transport, "ws", digest, target)
        self.assertEqual(snapshot_of(target).digest, digest)

    def test_an_upload_goes_on_where_it_was_cut(self):
        content = os.urandom(3 * PART_BYTES + 5)
        path = self.put("model.bin", content)
        faults = iter([None, None, "lost", None, "cut", None, "cut half"])
        self.server.fault = lambda method, path: next(faults, None)
        digest, size = upload_blob(self.transport, "ws", path)
        self.assertEqual(self.server.blobs[digest], content)
        sent = sum(length for method, _, _, length in self.server.requests if method == "PUT")
        self.assertLess(sent, size + 2 * PART_BYTES)

    def test_a_download_goes_on_where_it_was_cut_and_leaves_nothing_half(self):
        content = os.urandom(3_000_000)
        put_run_file(self.transport, "ws", "r", "outputs/a b/ü.bin", self.put("x", content))
        faults = iter(["cut answer", "cut answer", "cut"])
        self.server.fault = lambda method, path: next(faults, None) if path.endswith("/file") else None
        target = os.path.join(self.cache, "got", "ü.bin")
        download_run_file(self.transport, "ws", "r", "outputs/a b/ü.bin", target)
        with open(target, "rb") as file:
            self.assertEqual(file.read(), content)
        self.server.fault = lambda method, path: "cut answer" if path.endswith("/file") else None
        self.server.runs["r"]["files"]["other"] = self.server.runs["r"]["files"]["outputs/a b/ü.bin"]
        os.makedirs(os.path.join(self.cache, "none"))
        with self.assertRaises(StellwerkError):
            download_run_file(self.transport, "ws", "r", "other", os.path.join(self.cache, "none", "file"))
        self.assertEqual(os.listdir(os.path.join(self.cache, "none")), [])

    def test_paths_that_lead_out_of_the_folder_are_not_written(self):
        self.server.datastore["in/../../evil"] = b"x"
        for name in ("data", "work"):  # so that there is a way out of them
            os.makedirs(os.path.join(self.cache, "deep", name))
        with self.assertRaises((ValueError, StellwerkError)):
            download_datastore(self.transport, "ws", "default", "in", os.path.join(self.cache, "deep", "data"))
        self.assertFalse(os.path.exists(os.path.join(self.cache, "evil")))
        digest = self.server.add_snapshot({"../evil": b"x"})
        with self.assertRaises((ValueError, StellwerkError)):
            download_snapshot(self.transport, "ws", digest, os.path.join(self.cache, "deep", "work"))
        self.assertFalse(os.path.exists(os.path.join(self.cache, "deep", "evil")))

    def test_a_damaged_snapshot_is_refused(self):
        digest = self.server.add_snapshot({"a": b"12", "b": b"3"})
        self.server.blobs[self.server.snapshots[digest][0]["digest"]] = b"99"
        with self.assertRaisesRegex(StellwerkError, "damaged"):
            download_snapshot(self.transport, "ws", digest, os.path.join(self.cache, "work"))


@unittest.skipUnless(shutil.which("git"), "git is needed")
class TestGit(FolderCase):
    def test_commit_branch_dirtiness_and_remote_without_credentials_are_told(self):
        self.assertIsNone(git_state(self.folder))
        git = ["git", "-C", self.folder, "-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(git + ["init", "-q", "-b", "work"], check=True)
        self.put("a")
        subprocess.run(git + ["add", "a"], check=True)
        subprocess.run(git + ["commit", "-qm", "first"], check=True)
        subprocess.run(git + ["remote", "add", "origin", "https://me:pass@word@example.org/x.git"], check=True)
        state = git_state(self.folder)
        self.assertEqual((state["branch"], state["dirty"], state["remote"]), ("work", False, "https://example.org/x.git"))
        self.put("b")
        self.assertTrue(git_state(self.folder)["dirty"])

    def test_addresses_keep_their_user_only_where_it_is_no_credential(self):
        self.assertEqual(without_credentials("git@example.org:x/y.git"), "git@example.org:x/y.git")
        self.assertEqual(without_credentials("https://e.org/x?private_token=abc"), "https://e.org/x?private_token=***")


if __name__ == "__main__":
    unittest.main()
