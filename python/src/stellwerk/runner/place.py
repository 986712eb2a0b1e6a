"""The folder that one attempt of a run has on a machine, and what is written down in it.

`job.json` what to do (0600) · `state.json` how far it is · `runner.json` who does it · `runner.log` what the runner has to say ·
`work/` the expanded snapshot, where the script runs · `run/` journals and staged files · `logs/` what was printed · `ranks/` the same of each process of several · `private/` credentials · `secrets/` those of the vault that the script may read.
"""

from __future__ import annotations

import os
import sys
import time

from stellwerk._files import read_json, write_json


class Place:
    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        self.work = self._at("work")
        self.run = self._at("run")
        self.private = self._at("private")
        self.secrets = self._at("secrets")
        self.output = self._at("logs", "output.txt")
        self.preparation = self._at("logs", "preparation.txt")

    def _at(self, *names):
        return os.path.join(self.folder, *names)

    def job(self):
        job = read_json(self._at("job.json"))
        if not job:
            raise FileNotFoundError("There is no job in the folder %s." % self.folder)
        return job

    def write_job(self, job):
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        write_json(self._at("job.json"), job)

    def state(self):
        return read_json(self._at("state.json"), {})

    def note(self, **facts):
        """Writes down how far the attempt is; what was written before stays."""
        try:
            write_json(self._at("state.json"), dict(self.state(), **facts))
        except OSError as error:  # a full disk is no reason to end a script
            say("state.json could not be written: %s" % error)

    def runner(self):
        return read_json(self._at("runner.json"))

    def write_runner(self, runner):
        write_json(self._at("runner.json"), runner)

    def verdict_of_script(self):
        """What a script said of its own end, with `run.fail()`."""
        return read_json(os.path.join(self.run, "verdict.json"))


def say(text):
    """Writes to the runner's own log."""
    try:
        sys.stderr.write("%s %s\n" % (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text))
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
