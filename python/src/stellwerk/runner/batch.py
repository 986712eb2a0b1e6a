"""The driver program of a Spark application that is started by somebody else (Livy): becomes the runner of the job in `<folder>`, which is there.

`spark-submit batch.py <folder>`. The script runs beside the application's JVM, whose gateway the runner's environment names. When that JVM goes,
however it does, the runner is killed by the kernel, and its guard ends the script: nothing in Python outlives the application.
"""

from __future__ import annotations

import os
import sys


def main(folder):
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.path.insert(0, root)
    from stellwerk.runner.processes import die_with_parent
    from stellwerk.runner.remote import Job

    env = Job(folder).enter()
    if env is None:
        sys.stderr.write("There is no job in %s that waits for its runner.\n" % folder)
        return 1
    die_with_parent()
    env["PYTHONPATH"] = os.pathsep.join(part for part in (root, env.get("PYTHONPATH")) if part)
    os.chdir("/")
    os.execve(sys.executable, [sys.executable, "-S", "-m", "stellwerk.runner", folder], env)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
