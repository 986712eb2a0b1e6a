"""Beside a running script, for somebody who looks in: `python3 -m stellwerk.runner.beside <folder> exec -- <program> …` or `… connect <port>`.

`exec` starts a program in the script's working directory, with the script's own environment; standard input goes to it, what it prints comes
as frames: which (1: output, 2: errors, 3: the end), length (4 bytes, big end first), and so many bytes; the end is the exit code as text.
`connect` is a connection to a port of this machine, both ways as it is. Either ends when nobody takes what it says any more, or with the script.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading

from stellwerk.runner.place import Place
from stellwerk.runner.processes import die_with_parent, start_time

OUTPUT, ERRORS, END = 1, 2, 3
_BLOCK = 64 * 1024
_LINGER_SECONDS = 1.0


class Frames:
    """Whole frames, from several threads."""

    def __init__(self, descriptor):
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def write(self, which, content):
        data = struct.pack(">BI", which, len(content)) + content
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]

    def copy(self, which, source):
        while True:
            data = os.read(source, _BLOCK)
            if not data:
                return
            self.write(which, data)


def execute(place, words):
    environment, folder = _of_script(place)
    process = subprocess.Popen(
        words, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=die_with_parent,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, lambda *_: _kill(process))
    frames = Frames(1)
    frames.write(OUTPUT, b"")  # it has begun
    _daemon(_feed, process)
    _daemon(end_when_unheard, lambda: _kill(process))
    copies = [_daemon(_copy, frames, which, stream) for which, stream in ((OUTPUT, process.stdout), (ERRORS, process.stderr))]
    code = process.wait()
    for copy in copies:  # what it left behind may hold them open
        copy.join(_LINGER_SECONDS)
    frames.write(END, str(code if code >= 0 else 128 - code).encode())
    return 0


def connect(port):
    """Both ends are closed apart: each side may be done before the other."""
    try:
        sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    except OSError as error:
        sys.stderr.write("Nothing answers at port %d: %s\n" % (port, error))
        return 1
    sock.settimeout(None)
    _daemon(_pump, sock)
    while True:
        data = sock.recv(_BLOCK)
        if not data:
            return 0
        while data:
            data = data[os.write(1, data) :]


def _of_script(place):
    """Its environment and its folder: those of its process, which is alive."""
    pid = place.state().get("session")
    if not pid or start_time(pid) is None:
        raise OSError("The script does not run.")
    with open("/proc/%d/environ" % pid, "rb") as file:
        pairs = [part.split(b"=", 1) for part in file.read().split(b"\0") if b"=" in part]
    return {os.fsdecode(name): os.fsdecode(value) for name, value in pairs}, place.work


def _feed(process):
    try:
        while True:
            data = os.read(0, _BLOCK)
            if not data:
                break
            process.stdin.write(data)
            process.stdin.flush()
        process.stdin.close()
    except OSError:
        pass  # it reads no more


def _copy(frames, which, stream):
    try:
        frames.copy(which, stream.fileno())
    except OSError:
        pass  # nobody hears it: seen elsewhere


def _pump(sock):
    try:
        while True:
            data = os.read(0, _BLOCK)
            if not data:
                break
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def end_when_unheard(end):
    """The other end of our standard output is closed when nobody is there any more."""
    poll = select.poll()
    poll.register(1, 0)  # errors and the end are told unasked
    while not poll.poll(1000):
        pass
    end()


def _kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        pass


def _daemon(target, *arguments):
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread


def main():
    parser = argparse.ArgumentParser(prog="python -m stellwerk.runner.beside", description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("what", choices=("exec", "connect"))
    parser.add_argument("words", nargs="+")
    given = parser.parse_args()
    try:
        if given.what == "connect":
            return connect(int(given.words[0]))
        return execute(Place(given.folder), given.words)
    except OSError as error:
        sys.stderr.write("%s\n" % error)
        if given.what == "exec":
            Frames(1).write(ERRORS, ("%s\n" % error).encode())
            Frames(1).write(END, b"127")
        return 1


if __name__ == "__main__":
    sys.exit(main())
