"""The driver program of a Spark application on YARN, alone in its container at first: becomes the runner of the job that was handed to Spark with it.

Beside it are `job.json`, `relay.json` (how the server is reached) and, unpacked, our package. The script runs beside the application's JVM, whose gateway the runner's
environment names; when that JVM goes, the kernel kills the runner, and its guard ends the script.
"""

import os
import sys


def main():
    here = os.getcwd()
    root = os.path.join(here, "stellwerk-bundle")
    sys.path.insert(0, root)
    from stellwerk._files import read_json, write_json
    from stellwerk.runner.processes import die_with_parent

    folder = os.path.join(here, "stellwerk-job")
    os.mkdir(folder, 0o700)
    job = read_json(os.path.join(here, "job.json"))
    job.update(server="relay:" + os.path.join(here, "relay.json"), cacheFolder=os.path.join(here, "stellwerk-cache"))
    write_json(os.path.join(folder, "job.json"), job)
    die_with_parent()
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part))
    os.chdir("/")
    os.execve(sys.executable, [sys.executable, "-S", "-m", "stellwerk.runner", folder], env)


if __name__ == "__main__":
    sys.exit(main())
