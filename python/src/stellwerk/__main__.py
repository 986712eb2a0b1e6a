"""`python -m stellwerk`: `sync` brings offline runs to a server, `recover` what a dead runner left, `login` signs in."""

from __future__ import annotations

import argparse
import os
import sys

from stellwerk._transport import StellwerkError, Transport


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m stellwerk", description="Works with runs on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    sync = commands.add_parser("sync", help="bring offline runs, and what a server did not take, to the server")
    sync.add_argument("folders", nargs="*", help="runs, or folders in which they lie; all of this user, unless given")
    sync.add_argument("--workspace", default=os.environ.get("STELLWERK_WORKSPACE"), help="where offline runs go")
    sync.add_argument("--experiment", help="file offline runs under this experiment instead of their own")
    recover = commands.add_parser("recover", help="deliver what a dead runner left in its folder")
    recover.add_argument("folder")
    recover.add_argument("--failed", metavar="REASON", help="the run has failed for this reason, if its script's end is not known")
    login = commands.add_parser("login", help="sign in to a server and keep it for this user")
    login.add_argument("url", nargs="?", help="the server's address, or a sign-in link")
    login.add_argument("--user", help="sign in with this user's password, which is asked for")
    login.add_argument("--token-stdin", action="store_true", help="read a token from standard input")
    login.add_argument("--ca-bundle", help="a file with certificates (PEM) to trust for the server")
    given = parser.parse_args(arguments)
    return {"sync": _sync, "recover": _recover, "login": _login}[given.command](given)


def _login(given):
    from stellwerk.core.authentication import sign_in

    token = sys.stdin.readline().strip() if given.token_stdin else None
    credentials = sign_in(given.url, user=given.user, token=token, ca_bundle=given.ca_bundle)
    print("Signed in to %s." % credentials.url)
    return 0


def _sync(given):
    from stellwerk._offline import sync

    brought, left = sync(_signed_in(), given.workspace, given.folders, experiment=given.experiment)
    print("%d runs are at the server now, %d are left." % (len(brought), len(left)))
    return 1 if left else 0


def _recover(given):
    from stellwerk.runner.place import say
    from stellwerk.runner.recover import recover

    return recover(given.folder, say, given.failed)


def _signed_in():
    """The server that the user is signed in to, or None."""
    from stellwerk.client.sign_in import SignInNeeded, find_credentials

    try:
        found = find_credentials()
    except SignInNeeded:
        return None
    return Transport(found.url, found.token, found.ca_bundle)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (StellwerkError, OSError, ValueError) as failure:
        sys.stderr.write("%s\n" % failure)
        sys.exit(1)
