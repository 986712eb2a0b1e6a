"""One attempt of a run: snapshot, environment and data are made ready, the script runs, all that it leaves is delivered.

The script never waits for the server: once it runs, an outage of days only delays what the server knows. Cancelling, a time
limit, a newer attempt or a stopped runner end the script with all its processes. What could not be delivered stays in the folder.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import sys
import threading
import time

from stellwerk._downloads import download_run_files, download_snapshot
from stellwerk._files import cache_folder, safe_join, write_json, write_whole
from stellwerk._journal import RESOURCES
from stellwerk._run_folder import RunFolder, now
from stellwerk._transport import StellwerkError, Transport
from stellwerk.runner import spark
from stellwerk.runner.data import Data
from stellwerk.runner.delivery import LIMIT_SECONDS, NotDelivered, Patience, add_logs, deliver
from stellwerk.runner.environments import clean_environment, conda_packages, credentials_of, make_environment
from stellwerk.runner.lease import Lease
from stellwerk.runner.memory import MemoryKills
from stellwerk.runner.output import Log, last_lines, masked
from stellwerk.runner.outputs import FOLDERS, Outputs
from stellwerk.runner.place import Place, say
from stellwerk.runner.processes import MARK, adopt_orphans, process_namespace, start_time, sweep
from stellwerk.runner.programs import Cancelled, PreparationFailed, Programs, answer_of
from stellwerk.runner.rank_files import RankFiles
from stellwerk.runner.script import Guard, Script, package_root
from stellwerk.runner.shipping import Loop, Shipper
from stellwerk.runner.usage import sampled

_PATIENCE_BEFORE_START = 600.0
SUPERSEDED = 3
UNDELIVERED = 75
STOPPED = 128 + int(signal.SIGTERM)  # why, its target tells


class Attempt:
    def __init__(self, folder):
        self.place = Place(folder)
        self.job = self.place.job()
        self.configuration = self.job["configuration"]
        self.transport = Transport(self.job["server"], self.job["token"], self.job.get("caBundle"), timeout=30, attempts=3)
        self.mark = os.urandom(16).hex()
        self.cancelled = threading.Event()
        self.why = None  # cancel | superseded | stopped | time limit: why the script is to end
        self.warned = threading.Event()  # whether the target told that the script's place will be taken
        self.secrets = [*self.job["secrets"].values(), *self.job["vaultSecrets"].values()]
        self.credentials = credentials_of(self.job["indexes"])
        self.verdict = None
        self._several = RankFiles(folder) if self.job.get("launcher") else None
        self.used = None  # what the script took, once it has ended
        self.folder = self._run_folder()
        names = (self.job["workspace"], self.job["run"], self.job["attempt"])
        self.outputs = Outputs(self.transport, *names, self.place.work, say)
        self.data = Data(self.transport, names[0], self.job["dataReferences"], self.place.work)
        self.lease = Lease(
            self.transport, *names, self.job["leaseSeconds"], say,
            on_cancel=lambda: self.end_because("cancel"), on_fenced=self._fenced, on_token=self._renew_token,
        )  # fmt: skip
        self.shipper = Shipper(self.transport, self.folder, say, attempt=self.job["attempt"])
        self.loops = [
            Loop("journals", self._ship, on_error=self._heard),
            Loop("files", lambda: self.shipper.ship_files() or self.outputs.collect_live(), on_error=self._heard),
        ]
        if self.job.get("spark"):
            application = spark.Application(self.mark, lambda facts: self.lease.report(job=facts))
            self.loops.append(Loop("application", application.look, interval=0.5))

    def _run_folder(self):
        job = self.job
        os.makedirs(self.place.work, exist_ok=True)
        os.makedirs(self.place.private, mode=0o700, exist_ok=True)
        self._write_connection()
        return RunFolder.create(self.place.run, id=job["run"], workspace=job["workspace"], experiment=job["experiment"], attempt=job["attempt"])  # fmt: skip

    def execute(self):
        """Returns the exit code of the runner: 0 if all was delivered, with what became of the run."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # secrets of the run would lie in it
        adopt_orphans()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._asked_to_stop())
        signal.signal(signal.SIGUSR1, lambda *_: self.warned.set())
        self.guard = Guard()  # it takes a moment to be there; meanwhile the script is made ready
        self.place.note(mark=self.mark, processes=process_namespace(), runner={"pid": os.getpid(), "startTime": start_time(os.getpid())})
        self.transport.await_way()
        self.lease.report(state="preparing", host=socket.gethostname()[:256])
        self.lease.start()
        for loop in self.loops:
            loop.start()
        verdict = self._run_whatever_happens()
        if self.why == "superseded":
            return self._give_way()
        return self._deliver(verdict)

    def end_because(self, why):
        if self.why is None and self.verdict is None:
            self.why = why
            self.cancelled.set()

    def _run_whatever_happens(self):
        """A fault of the runner itself ends the run as failed, with what is known; it never leaves it hanging."""
        try:
            return self._run()
        except Exception as error:
            _say_where(error)
            sweep(self.mark, ancestors=[os.getpid()])
            return self.verdict or self._ended("failed", "The runner failed: %s: %s" % (type(error).__name__, error))
        finally:
            self.guard.leave()

    def _run(self):
        log = Log(self.place.preparation)

        def tell(text):
            say(self._masked(text))
            log.write(self._masked(text) + "\n")

        try:
            environment = self._prepare(Programs(tell, self.cancelled), tell)
            argv = self._command(environment)
            env = self._script_environment(environment)
        except Cancelled:
            return self._verdict(None)
        except (PreparationFailed, StellwerkError, OSError, ValueError) as error:
            tell(str(error))
            return self._ended("failed", "The run could not be prepared: %s" % error, lines=last_lines(self.place.preparation))
        return self._run_script(argv, env, environment)

    def _prepare(self, programs, tell):
        job = self.job
        if job.get("snapshot"):
            self.lease.report(progress="Fetching the snapshot.")
            self._while_unreachable(programs, self._fetch_snapshot)
        if job["attempt"] > 1:
            self._while_unreachable(programs, self._fetch_checkpoints)
        if job["dataReferences"]:
            self.lease.report(progress="Fetching data.")
            self._while_unreachable(programs, lambda: self.data.fetch(tell))
        self.lease.report(progress="Making the environment ready.")
        cache = job.get("cacheFolder") or cache_folder()
        environment = make_environment(job["environment"], job["indexes"], cache, self.place.work, self.place.private, programs)
        for notice in environment.notices:
            tell("Notice: " + notice)
        programs.check()
        self._forget_indexes()
        return environment

    def _forget_indexes(self):
        """The credentials of package indexes are not for the script, which can read this folder."""
        shutil.rmtree(self.place.private, ignore_errors=True)
        self.job["indexes"] = {"environment": {}}
        self.place.write_job(self.job)

    def _fetch_snapshot(self):
        shutil.rmtree(self.place.work, ignore_errors=True)
        download_snapshot(self.transport, self.job["workspace"], self.job["snapshot"], self.place.work, self.cancelled.is_set)

    def _fetch_checkpoints(self):
        """What an earlier attempt had got to."""
        download_run_files(self.transport, self.job["workspace"], self.job["run"], "checkpoints", self.place.work)

    def _while_unreachable(self, programs, work):
        until = time.monotonic() + _PATIENCE_BEFORE_START
        while True:
            programs.check()
            try:
                return work()
            except StellwerkError as error:
                programs.check()
                if getattr(error, "status", 503) not in (429, 500, 502, 503, 504) or time.monotonic() > until:
                    raise
                say(str(error))
            self.cancelled.wait(1.0)

    def _command(self, environment):
        script = safe_join(self.place.work, self.configuration["script"])
        if not os.path.isfile(script):
            raise PreparationFailed("The script %s is not in the snapshot." % self.configuration["script"])
        variables = {"$" + name: place for name, place in self.data.variables().items()}
        arguments = [str(argument) for argument in self.configuration.get("arguments", [])]
        command = [environment.python, "-u", script, *(variables.get(argument, argument) for argument in arguments)]
        if self.job.get("spark"):
            return spark.command(self.job["spark"], command, self.place.work)
        if not self.job.get("launcher"):
            return command
        return [*self.job["launcher"], sys.executable, "-S", "-m", "stellwerk.runner.rank", *command]

    def _script_environment(self, environment):
        env = clean_environment()
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # a wish of who starts the runner; the script's environment is compiled once for all runs
        inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != package_root()]
        if environment.folder:
            env["VIRTUAL_ENV"] = environment.folder
            env["PATH"] = os.path.join(environment.folder, "bin") + os.pathsep + env.get("PATH", os.defpath)
        elif inherited:
            env["PYTHONPATH"] = os.pathsep.join(inherited)
        if self.job.get("gpus") is not None:  # its own, and no others
            env["CUDA_VISIBLE_DEVICES"] = env["NVIDIA_VISIBLE_DEVICES"] = ",".join(self.job["gpus"])
        if self.job.get("spark"):
            env.update(spark.variables(environment.python))
        env.update(self.configuration.get("environmentVariables", {}))
        env.update(self.job["secrets"])
        if self.job["vaultSecrets"]:
            env["STELLWERK_SECRETS"] = self.place.secrets
        env.update(self.data.variables())
        env.update({
            "PYTHONUNBUFFERED": "1", "STELLWERK_RUN_ID": self.job["run"], "AZUREML_RUN_ID": self.job["run"],
            "STELLWERK_RUN_FOLDER": self.place.run, MARK: self.mark, "STELLWERK_ATTEMPT": str(self.job["attempt"]),
            "STELLWERK_CHECKPOINTS": os.path.join(self.place.work, "checkpoints"),
        })  # fmt: skip
        if not _brings_us(environment, env):
            env["PYTHONPATH"] = os.pathsep.join(part for part in (env.get("PYTHONPATH"), package_root()) if part)
        if self.job.get("launcher"):  # on each node our own package comes first, then the script gets what is its own
            env["STELLWERK_RANK_PYTHONPATH"] = env.get("PYTHONPATH", "")
            env["PYTHONPATH"] = package_root()
        return env

    def _run_script(self, argv, env, environment):
        for name, value in self.job["vaultSecrets"].items():
            os.makedirs(self.place.secrets, mode=0o700, exist_ok=True)
            write_whole(os.path.join(self.place.secrets, name), value)
        for name in FOLDERS:  # collected afterwards, and scripts may count on them
            os.makedirs(os.path.join(self.place.work, name), exist_ok=True)
        log = Log(self.place.output)
        script = Script(self.guard, argv, env, self.place.work, self.mark, log, self.secrets)
        if script.error:
            script.close()
            return self._ended("failed", "The script could not be started: %s" % script.error)
        started = now()
        limit = self.job["resources"].get("timeLimitSeconds")
        until = time.monotonic() + limit if limit else None
        self.place.note(startedAt=started, session=script.pid)
        kills = MemoryKills()
        usage = self._several or sampled(self.job, self.folder.file(RESOURCES), script.family())
        self.lease.report(state="running", startedAt=started, python=environment.version, notices=environment.notices or None, condaPackages=conda_packages(environment.folder) or None)
        foretold = Foretold(self.configuration.get("warning"), until, self.warned)
        while not script.poll(0.2) and not self.cancelled.is_set():
            if until and time.monotonic() > until:
                self.end_because("time limit")
            elif foretold.is_due():
                script.warn(foretold.number)
        if script.code == -int(signal.SIGTERM) and self.job.get("targetTellsEnd"):
            self.cancelled.wait(3.0)  # a target that ends a job asks all its processes at once, and us among them
        script.stop(0 if self.why == "superseded" else self.configuration.get("graceSeconds", 10))
        self.used = usage.finish()
        script.close()
        log.close()
        return self._verdict(script.code, kills)

    def _verdict(self, code, kills=None):
        """What became of the run, from its exit code and from why it was ended."""
        lines = last_lines(self.place.output)
        if self.why == "stopped" and self.lease.cancel_heard:
            self.why = "cancel"
        if self.why == "cancel":
            return self._ended("canceled", None, code)  # the server knows who did it
        if self.why == "stopped" and self.job.get("targetTellsEnd"):
            return None
        if self.why == "stopped":
            return self._ended("failed", "The runner was asked to stop (SIGTERM), so the script was ended.", code, lines)
        if self.why == "time limit":
            limit = self.job["resources"]["timeLimitSeconds"]
            return self._ended("failed", "The script was ended after its time limit of %g s." % limit, code, lines, "time-limit")
        own = self.place.verdict_of_script()
        if code == 0 and own:
            return self._ended("failed", own.get("reason") or "The script called the run failed.", code, lines)
        if code == 0:
            return self._ended("completed", None, code)
        of_memory = kills.reason(self.used) if kills and kills.explain(code) else self._several and self._several.out_of_memory()
        if of_memory:
            return self._ended("failed", of_memory, code, lines, "out-of-memory")
        return self._ended("failed", _reason(code), code, lines)

    def _masked(self, text):
        return masked(text, self.secrets + self.credentials)

    def _ended(self, state, reason, code=None, lines=None, cause=None):
        reason = self._masked(reason)[:3000] if reason else None
        self.verdict = {"state": state, "reason": reason, "endedAt": now(), "lastLines": lines, "cause": cause, "usage": self.used}
        if code is not None:
            self.verdict["exitCode"] = code if code >= 0 else 128 - code
        self.verdict = {name: value for name, value in self.verdict.items() if value is not None}
        self.place.note(verdict=self.verdict)
        return self.verdict

    def _deliver(self, verdict):
        ended = time.monotonic()
        self.lease.report(state="finalizing")
        for loop in self.loops:
            loop.stop()
        try:
            patience = Patience(say, float(os.environ.get("STELLWERK_DELIVERY_SECONDS", LIMIT_SECONDS)), ended)
            deliver(self, patience)
        except Exception as error:
            if not isinstance(error, NotDelivered):
                _say_where(error)
            say("Not everything could be delivered; `python -m stellwerk recover` will: %s" % error)
            self.lease.stop()
            return UNDELIVERED
        self.lease.stop()
        shutil.rmtree(self.place.folder, ignore_errors=True)
        return 0 if verdict else STOPPED

    def _give_way(self):
        say("A newer attempt of the run has taken over; this one leaves.")
        for loop in self.loops:
            loop.stop()
        self.lease.stop()
        shutil.rmtree(self.place.folder, ignore_errors=True)
        return SUPERSEDED

    def _ship(self):
        add_logs(self.shipper, self.place, self.job)
        return self.shipper.ship_journals() | self.shipper.ship_logs()

    def _heard(self, error):
        if getattr(error, "reason", None) == "run.attempt-superseded":
            self._fenced(str(error))
        elif not isinstance(error, StellwerkError):
            _say_where(error)

    def _fenced(self, message):
        say(message)
        self.why = "superseded"
        self.cancelled.set()

    def _asked_to_stop(self):
        """SIGTERM: the machine goes down, or a cancellation is hastened; the server knows which."""
        threading.Thread(target=self._find_out_why, daemon=True).start()

    def _find_out_why(self):
        self.lease.exchange()
        self.end_because("stopped")

    def _renew_token(self, token):
        self.job["token"] = self.transport.token = token
        try:
            self.place.write_job(self.job)
            self._write_connection()
        except OSError as error:
            say("The renewed token could not be written down: %s" % error)

    def _write_connection(self):
        """For the script's own calls to the server."""
        job = self.job
        connection = {"url": job["server"], "token": job["token"], "caBundle": job.get("caBundle"), "workspace": job["workspace"]}
        write_json(os.path.join(self.place.run, "connection.json"), connection)


class Foretold:
    """When the script is told that its time or its place will be taken from it, where its configuration asks for that."""

    def __init__(self, wanted, until, told):
        self.number = getattr(signal, "SIG" + wanted["signal"]) if wanted else None
        self._at = until - wanted["seconds"] if wanted and until else None
        self._told = told
        self._over = wanted is None

    def is_due(self):
        """Once."""
        if self._over or not (self._told.is_set() or (self._at is not None and time.monotonic() > self._at)):
            return False
        self._over = True
        return True


def _brings_us(environment, env):
    """Whether scripts of the environment find a `stellwerk` of their own."""
    if environment.folder:
        return environment.has("stellwerk")
    # A folder of that name somewhere is none.
    ask = "import importlib.util; found = importlib.util.find_spec('stellwerk'); print(found is not None and found.origin is not None)"
    return answer_of([environment.python, "-c", ask], env) == "True"


def _say_where(error):
    """A fault of our own, with all that helps to find it."""
    import traceback

    say("".join(traceback.format_exception(type(error), error, error.__traceback__)))


def _reason(code):
    if code > 0:
        return "The script ended with exit code %d." % code
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "number %d" % -code
    text = "The script was killed by the signal %s." % name
    return text + " The machine may have run out of memory." if name == "SIGKILL" else text
