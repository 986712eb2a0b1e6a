"""Scripts of the framework PySpark: started by spark-submit as the driver of an application, or beside a driver's JVM that has started the runner.

Either way the script is a child of the runner's guard, and ends with all its processes when the run does. What Spark calls the application and
where it shows it is asked of the script's own JVM, by the gateway that PySpark itself uses; so it is known whatever is logged.
"""

from __future__ import annotations

import os
import shutil
import socket

from stellwerk._files import safe_join
from stellwerk.runner.processes import MARK
from stellwerk.runner.programs import PreparationFailed
from stellwerk.runner.script import package_root

GATEWAY = "PYSPARK_GATEWAY_PORT"
_SECRET = "PYSPARK_GATEWAY_SECRET"


def runs_elsewhere(job):
    """Whether the job's runner is to be in a container of its application: it is in none yet."""
    return (job.get("spark") or {}).get("deployMode") == "cluster" and GATEWAY not in os.environ


def command(spark, argv, work):
    """What starts the script: `argv` as Python has it, through Spark. Beside a JVM that is there already it stays as it is."""
    if GATEWAY in os.environ:
        return argv
    return [submit(spark.get("home")), *options(spark, work=work), *argv[2:]]  # which Python, it is told by `variables`


def variables(python):
    """What the script's environment has for Spark: the Python of the driver, and of the executors."""
    found = {"PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": python}
    if GATEWAY in os.environ:  # Spark's own modules were handed to the runner
        parts = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        found["PYTHONPATH"] = os.pathsep.join(part for part in parts if part and part != package_root())
    return found


def submit(home):
    """Where spark-submit is."""
    home = home or os.environ.get("SPARK_HOME")
    found = os.path.join(home, "bin", "spark-submit") if home else shutil.which("spark-submit")
    if not found or not os.access(found, os.X_OK):
        where = "in %s" % home if home else "on the PATH, and there is no SPARK_HOME"
        raise PreparationFailed("There is no spark-submit %s: name where Spark is in the settings of the compute target (sparkHome)." % where)
    return found


def options(spark, mode="client", work=None):
    """What is asked of Spark, as spark-submit takes it."""
    master, executors = spark.get("master"), spark.get("executors") or {}
    count, cores = executors.get("count"), executors.get("cores")
    standalone = bool(master) and master.startswith("spark://")
    if count and standalone:  # it knows no number of executors, only the cores of all of them
        cores = cores or 1
    asked = [
        ("--master", master),
        ("--deploy-mode", mode),
        ("--num-executors", None if standalone else count),
        ("--total-executor-cores", count * cores if count and standalone else None),
        ("--executor-cores", cores),
        ("--executor-memory", executors.get("memory")),
        ("--driver-memory", spark.get("driverMemory")),
        ("--packages", ",".join(spark.get("packages") or [])),
        ("--repositories", ",".join(spark.get("repositories") or [])),
        ("--py-files", ",".join(safe_join(work, path) for path in spark.get("pyFiles") or [])),
    ]
    words = [word for name, value in asked if value for word in (name, str(value))]
    for name, value in sorted((spark.get("settings") or {}).items()):
        words += ["--conf", "%s=%s" % (name, value)]
    return words


class Application:
    """Finds out, once, what the script's application is called and where it is shown."""

    def __init__(self, mark, tell):
        self._mark = ("%s=%s" % (MARK, mark)).encode()
        self._tell = tell
        self._told = False

    def look(self):
        if self._told:
            return
        for gateway in self._gateways():
            try:
                facts = _asked(*gateway)
            except (OSError, ValueError):
                continue  # it is not there yet, or not any more
            if facts:
                self._told = True
                return self._tell(facts)

    def _gateways(self):
        """Port and secret of the gateways that processes of the script have."""
        found = set()
        for name in os.listdir("/proc"):
            if name.isdigit():
                variables = _environment_of(name)
                if self._mark in variables:
                    pairs = dict(variable.decode("utf-8", "replace").partition("=")[::2] for variable in variables)
                    if pairs.get(GATEWAY, "").isdigit() and pairs.get(_SECRET):
                        found.add((int(pairs[GATEWAY]), pairs[_SECRET]))
        return found


def _environment_of(pid):
    try:
        with open("/proc/%s/environ" % pid, "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _asked(port, secret):
    """The facts of the application of this gateway's JVM; None as long as it has none. It speaks Py4J's protocol, a line for each word."""
    with socket.create_connection(("127.0.0.1", port), 5.0) as connection:
        lines = connection.makefile("rwb")

        def say(*words):
            lines.write("".join(word + "\n" for word in words).encode())
            lines.flush()
            answer = lines.readline().decode("utf-8").rstrip("\n")
            if not answer.startswith("!y"):
                raise ValueError(answer[:200] or "the gateway said nothing")
            return answer[2:]

        def call(thing, method):
            """The value, or the name of the object, that a method without arguments returns."""
            return say("c", thing, method, "e")[1:]

        say("A", secret)
        contexts = say("r", "m", "org.apache.spark.SparkContext$", "MODULE$", "e")[1:]
        context = call(contexts, "getActive")
        if call(context, "isDefined") != "true":
            return None
        context = call(context, "get")
        facts = {"application": call(context, "applicationId")}
        page = call(context, "uiWebUrl")
        if call(page, "isDefined") == "true":
            facts["url"] = call(page, "get")
        return facts
