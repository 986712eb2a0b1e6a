"""The user's score.py: loading it, init(), run(data). All of it happens on the worker threads, never on the event loop."""
import importlib.util
import os
import sys
import traceback
import uuid

from . import words


class Failed(Exception):
    """The user's code raised. The message is for the caller; trace and paths are in the log, under the incident."""

    def __init__(self, message, incident):
        super().__init__(message)
        self.incident = incident


class Script:
    def __init__(self, app_dir, entry):
        self.app_dir = os.path.abspath(app_dir)
        self.path = os.path.join(self.app_dir, entry)
        self.entry = entry
        self.raw_http = False
        self._run = None

    def load(self):
        """Imports the script and calls init()."""
        sys.path[:0] = list(dict.fromkeys([os.path.dirname(self.path), self.app_dir]))
        with guarded("Loading %s" % self.entry):
            os.chdir(self.app_dir)
            module = self._module()
        run = getattr(module, "run", None)
        if not callable(run):
            raise Failed("%s has no function run(data)." % self.entry, None)
        init = getattr(module, "init", None)
        if callable(init):
            with guarded("init() of %s" % self.entry):
                init()
        self.raw_http = bool(getattr(run, "raw_http", False))
        self._run = run

    def run(self, data):
        with guarded("run() of %s" % self.entry):
            return self._run(data)

    def _module(self):
        if not os.path.isfile(self.path):
            raise FileNotFoundError("the image holds no such file")
        name = os.path.splitext(os.path.basename(self.path))[0]
        if name in sys.modules or not name.isidentifier():
            name = "stellwerk_entry"
        spec = importlib.util.spec_from_file_location(name, self.path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module


class guarded:
    """Turns whatever the user's code raises, sys.exit() included, into a Failed and a trace in the log."""

    def __init__(self, what):
        self.what = what

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None or isinstance(error, Failed):
            return False
        incident = uuid.uuid4().hex[:12]
        # One write, so that the lines of two requests do not mix; without the frame that is ours.
        text = "".join(traceback.format_exception(kind, error, trace.tb_next)).rstrip()
        sys.stdout.write("ERROR incident %s: %s raised\n%s\n" % (incident, self.what, text))
        sys.stdout.flush()
        raise Failed("%s raised %s" % (self.what, words.describe(error)), incident) from None
