"""A script on several pods, one process on each: `python3 -m stellwerk.runner.ranks lead <job> <program> …` on the first, `… follow <folder>` on each other.

Whoever leads sends the script's folder and its environment to all others, starts the program everywhere, prints what they print and keeps it and
their samples with its own (`rank_files`), and ends with the first that fails, or with the last. What it is warned of or asked to end by is passed on
to all. Whoever follows ends when the leader does; with it all that it started. Both know each other by a key that only pods of the job have; secrets are not sent, each pod has its own.
"""

from __future__ import annotations

import codecs
import hashlib
import hmac
import json
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time

from stellwerk._files import read_json, write_json, write_whole
from stellwerk._journal import Lines
from stellwerk.runner.memory import MemoryKills
from stellwerk.runner.output import Log
from stellwerk.runner.place import Place
from stellwerk.runner.rank_files import RankFiles

PORT = 18471
_FINDS_SECONDS = 600.0
_HEAD = struct.Struct(">BI")
_OUTPUT, _END, _SAMPLES, _TOTAL = 1, 2, 3, 4
_SAMPLES_SECONDS = 1.0
_WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
_SIGNALS = (*_WARNINGS, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_NONCE = 32
_KILLED = 137


def lead(folder, command):
    """Returns the exit code of all of them together."""
    above = os.path.dirname(folder)
    hosts = _awaited(os.path.join(above, "hosts"))
    key = _key(folder)
    files = RankFiles(folder)
    told = threading.Lock()
    ends = []
    ended = threading.Event()
    working = []
    signals = queue.SimpleQueue()

    def end(code, out_of_memory=None):
        with told:
            if out_of_memory and not any(ends):
                files.tell_out_of_memory(out_of_memory)
            ends.append(code)
        if code != 0 or len(ends) == len(hosts):
            ended.set()

    def say(data):
        with told:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def follow(rank):
        try:
            with _connected(hosts[rank]) as there:
                _meet(there, key, b"lead", b"follow")
                _send_work(there, folder, command, _places(hosts, rank, _SIGNALS))
                working.append(there)
                end(*_heard(there, _Kept(files, rank, say)))
        except (OSError, ValueError) as error:
            say(("The pod of rank %d was lost: %s. It may have run out of memory.\n" % (rank, error)).encode())
            end(_KILLED)

    def pass_on():
        while True:
            number = signals.get()
            for there in working:
                try:
                    there.sendall(bytes([number]))
                except OSError:
                    pass  # whoever listens to it sees that
            if number in _WARNINGS:
                own.send_signal(number)  # what else ends it, all processes here are sent

    for number in _SIGNALS:
        signal.signal(number, lambda number, _: signals.put(number))
    for rank in range(1, len(hosts)):
        threading.Thread(target=follow, args=(rank,), daemon=True).start()
    own = subprocess.Popen(command, env=dict(os.environ, **_places(hosts, 0, _WARNINGS)), stdin=subprocess.DEVNULL)
    threading.Thread(target=pass_on, daemon=True).start()
    threading.Thread(target=lambda: end(_code(own.wait())), daemon=True).start()
    ended.wait()
    code = next((code for code in ends if code != 0), 0)
    if code != 0 and own.poll() is None:
        own.kill()
    return code


def follow(above):
    """Once; how it went is the leader's to tell."""
    folder = os.path.join(above, "job")
    with socket.create_server(("", PORT)) as listener:
        while True:
            there = listener.accept()[0]
            there.settimeout(30.0)
            try:
                _meet(there, _key(folder), b"follow", b"lead")
                break
            except (OSError, ValueError):
                there.close()  # a stranger
    there.settimeout(None)
    command, env, cwd = _receive_work(there, folder)
    told = threading.Lock()

    def say(kind, data):
        with told:
            there.sendall(_HEAD.pack(kind, len(data)) + data)

    files, rank = RankFiles(folder), int(env["STELLWERK_RANK"])
    kills = MemoryKills()
    process = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    threading.Thread(target=_obey, args=(there, process), daemon=True).start()
    samples = _Samples(files.samples(rank), lambda lines: say(_SAMPLES, lines))
    samples.start()
    for data in iter(lambda: process.stdout.read1(65536), b""):
        say(_OUTPUT, data)
    code = process.wait()
    samples.finish()
    used = read_json(files.total(rank)) or {}
    say(_TOTAL, json.dumps(used).encode())
    end = {"code": _code(code), "outOfMemory": kills.reason(used) if kills.explain(code) else None}
    say(_END, json.dumps(end).encode())
    return 0


class _Samples(threading.Thread):
    """Sends what is sampled on this node, by whole lines, while it is written."""

    def __init__(self, path, send):
        super().__init__(name="samples", daemon=True)
        self._path = path
        self._send = send
        self._sent = 0
        self._over = threading.Event()

    def run(self):
        while not self._over.wait(_SAMPLES_SECONDS):
            self._look()

    def finish(self):
        self._over.set()
        self.join()
        self._look()

    def _look(self):
        if not os.path.exists(self._path):
            return
        with open(self._path, "rb") as file:
            file.seek(self._sent)
            data = file.read()
        lines = data[: data.rfind(b"\n") + 1]
        if lines:
            self._send(lines)
            self._sent += len(lines)


class _Kept:
    """What one rank elsewhere tells, kept here as that of the first is. All that it prints is said, too."""

    def __init__(self, files, rank, say):
        self._log = Log(files.log(rank))
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._samples = Lines(files.samples(rank))
        self._total = files.total(rank)
        self._say = say

    def keep(self, kind, content):
        if kind == _OUTPUT:
            self._log.write(self._decoder.decode(content))
            self._say(content)
        elif kind == _SAMPLES:
            self._samples.append(content)
        elif kind == _TOTAL:
            write_json(self._total, json.loads(content.decode("ascii")))


def _obey(there, process):
    """The leader says nothing more but the numbers of signals, until it ends."""
    try:
        for number in iter(lambda: there.recv(1), b""):
            process.send_signal(number[0])
    finally:
        os._exit(_KILLED)


def _places(hosts, rank, signals):
    """For `rank`, which passes these signals on to its program."""
    passed = ",".join(str(int(number)) for number in signals)
    return {"STELLWERK_RANK": str(rank), "STELLWERK_RANKS": str(len(hosts)), "STELLWERK_HOSTS": ",".join(hosts), "STELLWERK_RANK_SIGNALS": passed}


def _awaited(path):
    until = time.monotonic() + _FINDS_SECONDS
    while True:
        hosts = read_json(path)
        if hosts:
            return hosts
        if time.monotonic() > until:
            raise SystemExit("The other pods of this run did not begin in time.")
        time.sleep(0.2)


def _key(folder):
    with open(os.path.join(os.path.dirname(folder), "key"), "rb") as file:
        return file.read()


def _connected(host):
    until = time.monotonic() + _FINDS_SECONDS
    while True:
        try:
            return socket.create_connection((host, PORT), 10.0)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def _meet(there, key, own, other):
    """Each proves to the other that it has the key, which neither tells."""
    nonce = os.urandom(_NONCE)
    there.sendall(nonce)
    theirs = _read(there, _NONCE)
    there.sendall(hmac.new(key, own + theirs, hashlib.sha256).digest())
    if not hmac.compare_digest(_read(there, 32), hmac.new(key, other + nonce, hashlib.sha256).digest()):
        raise ValueError("that is no pod of this run")
    there.settimeout(None)


def _send_work(there, folder, command, places):
    secrets = (read_json(os.path.join(folder, "job.json")) or {}).get("secrets", {})
    env = {name: value for name, value in os.environ.items() if name not in secrets}
    env.update(places)
    head = json.dumps({"command": command, "env": env, "cwd": os.getcwd()}).encode()
    there.sendall(struct.pack(">I", len(head)) + head)
    with there.makefile("wb") as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        for path in (os.path.join(folder, "work"), os.environ.get("VIRTUAL_ENV")):
            if path and os.path.isdir(path):
                archive.add(path)


def _receive_work(there, folder):
    with there.makefile("rb") as stream:
        (length,) = struct.unpack(">I", stream.read(4))
        head = json.loads(stream.read(length).decode("utf-8"))
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            archive.extraction_filter = lambda member, _: member  # it comes from our own pod; environments have links to the image's Python
            archive.extractall("/")
    job = read_json(os.path.join(folder, "job.json"))
    place = Place(folder)
    for name, value in job["vaultSecrets"].items():
        os.makedirs(place.secrets, mode=0o700, exist_ok=True)
        write_whole(os.path.join(place.secrets, name), value)
    os.makedirs(place.run, exist_ok=True)
    return head["command"], dict(head["env"], STELLWERK_RUN_FOLDER=place.run, **job["secrets"]), head["cwd"]


def _heard(there, kept):
    while True:
        kind, length = _HEAD.unpack(_read(there, _HEAD.size))
        content = _read(there, length)
        if kind == _END:
            end = json.loads(content.decode("utf-8"))
            return int(end["code"]), end["outOfMemory"]
        kept.keep(kind, content)


def _read(there, length):
    data = b""
    while len(data) < length:
        more = there.recv(length - len(data))
        if not more:
            raise ValueError("its connection ended")
        data += more
    return data


def _code(code):
    return code if code >= 0 else 128 - code


def main(arguments):
    what, folder, *command = arguments
    return lead(folder, command) if what == "lead" else follow(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
