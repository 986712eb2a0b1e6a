"""Runs on a login node for as long as its standard input is open: `python3 -m stellwerk.runner.login_relay <address file> <socket> [--host <host> | --folder]`.

Compute nodes cannot use the socket by which the login node reaches the server; they connect here. What they say is passed on to that socket and to nothing else,
and only for those who know the secret in the address file, which its user alone can read: each side shows that it knows it, and the secret itself is never sent.
Where they cannot connect here either, it is a folder beside the address file, to which its user alone has access.
"""

from __future__ import annotations

import argparse
import asyncio
import glob
import hmac
import os
import shutil
import socket
import sys

from stellwerk._files import read_json, write_json
from stellwerk._shared_folder import SharedFolder
from stellwerk._ways import proof_of

_PATIENCE_SECONDS = 15.0
_BLOCK = 256 * 1024


class Relay:
    def __init__(self, leads_to, secret):
        self.leads_to = leads_to
        self.secret = secret
        self.open = set()  # a task that nobody holds may vanish

    async def heard(self, reader, writer):
        task = asyncio.current_task()
        self.open.add(task)
        try:
            if await asyncio.wait_for(self.knows(reader, writer), _PATIENCE_SECONDS):
                await self.bridge(reader, writer)
        except (OSError, EOFError, ValueError, asyncio.TimeoutError):
            pass
        except asyncio.CancelledError:
            pass  # the relay ends; Python's streams would print it as a fault of theirs
        finally:
            self.open.discard(task)
            writer.close()

    async def knows(self, reader, writer):
        """Both show what they know, each for a number that the other has chosen."""
        ours = os.urandom(16).hex()
        writer.write(("%s\n" % ours).encode())
        theirs, proof = (await reader.readuntil(b"\n")).decode("ascii").split()
        if not hmac.compare_digest(proof, proof_of(self.secret, "node", ours, theirs)):
            return False
        writer.write(("%s\n" % proof_of(self.secret, "relay", theirs, ours)).encode())
        return True

    async def bridge(self, reader, writer):
        there, back = await asyncio.open_unix_connection(self.leads_to)
        try:
            ways = [asyncio.ensure_future(passed_on(reader, back)), asyncio.ensure_future(passed_on(there, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            back.close()


async def passed_on(reader, writer):
    while True:
        data = await reader.read(_BLOCK)
        if not data:
            return
        writer.write(data)
        await writer.drain()


async def serve(file, leads_to, host):
    secret = os.urandom(32).hex()
    relay = Relay(leads_to, secret)
    server = await asyncio.start_server(relay.heard, "0.0.0.0", 0, backlog=256)
    address = {"host": host, "port": server.sockets[0].getsockname()[1], "secret": secret}
    write_json(file, address)  # 0600
    print(address["port"], flush=True)
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), lambda: over.set() if not os.read(sys.stdin.fileno(), 4096) else None)
    await over.wait()
    server.close()
    if read_json(file) == address:  # a newer one has written its own
        os.unlink(file)


def serve_folder(file, leads_to):
    """In the place of those that earlier relays left."""
    for left in glob.glob(glob.escape(file) + ".*/"):
        shutil.rmtree(left, ignore_errors=True)
    folder = "%s.%s" % (file, os.urandom(4).hex())
    os.mkdir(folder, 0o700)

    def leading_on():
        there = socket.socket(socket.AF_UNIX)
        there.connect(leads_to)
        return there

    SharedFolder(folder, leading_on)
    address = {"folder": folder}
    write_json(file, address)
    print(folder, flush=True)
    while os.read(sys.stdin.fileno(), 4096):
        pass
    if read_json(file) == address:  # a newer one has written its own
        os.unlink(file)
    shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(prog="python -m stellwerk.runner.login_relay", description=__doc__)
    parser.add_argument("file")
    parser.add_argument("leads_to")
    parser.add_argument("--host", default=socket.gethostname())
    parser.add_argument("--folder", action="store_true")
    given = parser.parse_args()
    try:
        if given.folder:
            serve_folder(given.file, given.leads_to)
        else:
            asyncio.run(serve(given.file, given.leads_to, given.host))
    except (OSError, KeyboardInterrupt) as error:
        sys.stderr.write("%s\n" % error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
