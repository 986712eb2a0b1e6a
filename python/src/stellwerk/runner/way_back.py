"""Tries the way by which a run here would reach its server, which is asked who it is: `python3 -m stellwerk.runner.way_back <server> [<authority>]`.

The server is named as in a job, the authority by its certificate. Ends with 0 if the server answers, else with 1 and the reason.
"""

from __future__ import annotations

import sys

from stellwerk._transport import StellwerkError, Transport

_LAID_WITHIN_SECONDS = 20.0
_ANSWERS_WITHIN_SECONDS = 20.0


def why_not(server, authority=None):
    """The reason, empty if the server answers."""
    try:
        transport = Transport(server, ca_bundle=authority, timeout=_ANSWERS_WITHIN_SECONDS, attempts=1)
        transport.await_way(_LAID_WITHIN_SECONDS)
        transport.call("GET", "/server")
    except (StellwerkError, OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return ""


if __name__ == "__main__":
    sys.exit(why_not(*sys.argv[1:]) or 0)
