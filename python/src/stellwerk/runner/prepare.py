"""Makes the environment of a run before its runner is started, for machines where each run has a Unix id of its own.

One further id builds for all: runs read what it made and cannot change it. So no code of packages is executed here, only wheels are
unpacked. What is not an environment stays closed to all others: downloads, uv, locks, and the credentials of indexes, which do not outlive this.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import traceback

from stellwerk.runner.environments import credentials_of, make_environment
from stellwerk.runner.output import masked
from stellwerk.runner.place import Place
from stellwerk.runner.programs import Cancelled, PreparationFailed, Programs

FAILED = 1
NEEDS_BUILDING = 3


def prepare(folder):
    """Returns the exit code. What is done goes to standard output, why it failed to standard error."""
    os.umask(0o077)
    cancelled = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: cancelled.set())
    place = Place(folder)
    job = place.job()
    credentials = credentials_of(job["indexes"])
    os.makedirs(place.private, exist_ok=True)
    for shared in (job["cacheFolder"], os.path.join(job["cacheFolder"], "environments")):
        os.makedirs(shared, exist_ok=True)
        os.chmod(shared, 0o711)  # whoever knows an environment's name may use it; nobody lists them
    programs = Programs(lambda text: _print(masked(text, credentials), sys.stdout), cancelled)
    try:
        make_environment(job["environment"], job["indexes"], job["cacheFolder"], folder, place.private, programs, for_others=True)
        return 0
    except Cancelled:
        return 128 + signal.SIGTERM
    except (PreparationFailed, OSError, ValueError) as error:
        if "--no-build" in str(error):  # uv's words: something in the lock is there as its source only
            return NEEDS_BUILDING
        _print(masked(str(error), credentials), sys.stderr)
        return FAILED
    except Exception as error:
        _print(masked(traceback.format_exc(), credentials), sys.stdout)
        _print(masked("The runner failed: %s: %s" % (type(error).__name__, error), credentials), sys.stderr)
        return FAILED
    finally:
        shutil.rmtree(place.private, ignore_errors=True)


def _print(text, file):
    try:
        file.write(text + "\n")
        file.flush()
    except OSError:
        pass  # the server is gone; what is made is of use to the next one
