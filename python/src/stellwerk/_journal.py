"""A run's journal: what a script logs, on disk, one JSON line each, in the formats of the contract.

Logging is one append to a file: it never waits for a network and never raises because of a disk. What a
full disk swallows is counted and told. Lines are written whole by single appends, so that threads, forked
processes and several programs can log to the same run. A line's place in the file is its number.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from json.encoder import encode_basestring_ascii as _quoted
from time import time

NAME_LENGTH = 255
TEXT_LENGTH = 255
TAG_KEY_LENGTH = 100
TAG_VALUE_LENGTH = 1000
LIST_VALUES = 10_000
LINE_BYTES = 1024 * 1024
MAIN = "journal.jsonl"
FILES = "files.jsonl"
RESOURCES = "resources.jsonl"  # what the run takes of its machine: written by its runner
STAGED = "files"
_LARGEST = 2**53
_write = os.write


class Journal:
    """Appends to the journal of one run. `folder` is the run's folder; it is made when the first line is written."""

    def __init__(self, folder):
        self.folder = folder
        self._lines = Lines(os.path.join(folder, MAIN))
        self._files = Lines(os.path.join(folder, FILES))
        self._prefixes = {}
        self._images = 0

    @property
    def dropped(self):
        """How many entries could not be written."""
        return self._lines.dropped + self._files.dropped

    def log(self, name, value, step=None):
        """Logs a number; text, truth values, None, scalars of numpy and torch, and lists are understood too."""
        kind = type(value)
        if (kind is float and value - value == 0.0) or (kind is int and -_LARGEST <= value <= _LARGEST):
            try:
                prefix = self._prefixes[name]
            except (KeyError, TypeError):
                prefix = self._prefix(name)
            if step is not None and type(step) is not int:
                step = _step(step)
            line = f"{prefix}{value!r},{'null' if step is None else step},{time():.3f}]\n".encode()
            lines = self._lines
            try:
                if _write(lines.fd, line) == len(line):
                    return
            except OSError:
                lines.append(line)
            else:
                lines.torn()
            return
        self._log_other(name, value, step)

    def log_list(self, name, values, step=None):
        """Logs several values of one series at once."""
        values = _plain(values)
        values = [_value(item) for item in values] if isinstance(values, list) else [_value(values)]
        for start in range(0, max(len(values), 1), LIST_VALUES):
            self._series("l", name, values[start : start + LIST_VALUES], step)

    def log_row(self, name, columns, step=None):
        """Logs a row of a table: a dictionary of column and value."""
        row = {_clip(str(key), TEXT_LENGTH): _value(_plain(value)) for key, value in columns.items()}
        self._series("r", name, row, step)

    def log_table(self, name, columns, step=None):
        """Logs a whole table: a dictionary of column and list of values."""
        table = {}
        for key, values in columns.items():
            values = _plain(values)
            table[_clip(str(key), TEXT_LENGTH)] = (
                [_value(item) for item in values] if isinstance(values, list) else _value(values)
            )
        rows = max([len(values) for values in table.values() if isinstance(values, list)] or [0])
        for start in range(0, max(rows, 1), LIST_VALUES):
            part = {
                key: values[start : start + LIST_VALUES] if isinstance(values, list) else values
                for key, values in table.items()
            }
            self._series("t", name, part, step)

    def log_image(self, name, path=None, plot=None, step=None):
        """Logs a picture: a file, or a matplotlib figure or module. Returns its path among the run's files."""
        self._images += 1
        safe = "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in str(name))[:60].strip(". ")
        stem = "images/%s-%d-%d" % (safe or "image", int(time() * 1000), self._images)
        target = stem + ".png" if plot is not None else stem + (os.path.splitext(str(path))[1].lower() or ".png")
        if plot is None:
            staged = self._stage_or_lose(path, target)
        else:
            staged = self._stage_made(plot.savefig, target)
        if staged:
            self.log_object(name, "image", {"path": target}, step)
        return target

    def log_confusion_matrix(self, name, value, step=None):
        self.log_object(name, "confusion_matrix", value, step)

    def log_predictions(self, name, value, step=None):
        self.log_object(name, "predictions", value, step)

    def log_residuals(self, name, value, step=None):
        self.log_object(name, "residuals", value, step)

    def log_accuracy_table(self, name, value, step=None):
        self.log_object(name, "accuracy_table", value, step)

    def log_object(self, name, kind, value, step=None):
        """Logs a structured metric: a dictionary, or the JSON text of one. A very large one becomes a file of the run."""
        content = json.loads(value) if isinstance(value, (str, bytes)) else _plain(value)
        if not isinstance(content, dict):
            content = {"data": content}
        line = self._entry(["o", _name(name), kind, content, _step(step)], time())
        if len(line) > LINE_BYTES:
            target = "metrics/%s-%d.json" % (kind, int(time() * 1000))
            text = json.dumps(content)
            if not self._stage_made(lambda kept: _write_text(kept, text), target):
                return
            line = self._entry(["o", _name(name), kind, {"path": target}, _step(step)], time())
        self._lines.append(line)

    def tag(self, key, value=""):
        """Sets a tag; None removes it."""
        text = None if value is None else _clip(str(value), TAG_VALUE_LENGTH)
        self._lines.append(self._entry(["tag", _clip(str(key), TAG_KEY_LENGTH) or "-", text]))

    def set_tags(self, tags):
        for key, value in tags.items():
            self.tag(key, value)

    def add_properties(self, properties):
        for key, value in properties.items():
            text = _clip("" if value is None else str(value), TAG_VALUE_LENGTH)
            self._lines.append(self._entry(["prop", _clip(str(key), TAG_KEY_LENGTH) or "-", text]))

    def param(self, name, value):
        """Records a parameter that the run was given."""
        value = _plain(value)
        if not isinstance(value, (str, bool, int, float)) and value is not None:
            value = json.dumps(value)
        if isinstance(value, str):
            value = _clip(value, TAG_VALUE_LENGTH)
        self._lines.append(self._entry(["param", _name(name), value]))

    def display_name(self, text):
        self._lines.append(self._entry(["name", _clip(str(text), 256)]))

    def end(self, state, reason=None):
        """Says that the run has ended: `completed`, `failed` or `canceled`."""
        why = None if reason is None else _clip(str(reason), 3000)
        self._lines.append(self._entry(["state", state, why, time()]))

    def stage(self, source, name):
        """Copies a file beside the journal, to become the file `name` of the run. The source may change afterwards."""
        from stellwerk._files import run_path, stage_copy

        name = run_path(name)
        digest, size = stage_copy(source, os.path.join(self.folder, STAGED))
        self._files.append(self._entry(["file", name, digest, size]))
        return digest

    def close(self):
        self._lines.close()
        self._files.close()

    def _stage_made(self, make, target):
        """Stages what `make` writes to the path that it is given."""
        self._images += 1
        kept = os.path.join(self.folder, "made-%d-%d%s" % (os.getpid(), self._images, os.path.splitext(target)[1]))
        try:
            os.makedirs(self.folder, exist_ok=True)
            make(kept)
            return self._stage_or_lose(kept, target)
        except OSError as error:
            self._lines.lose(error)
            return False
        finally:
            if os.path.exists(kept):
                os.unlink(kept)

    def _stage_or_lose(self, source, target):
        try:
            self.stage(source, target)
            return True
        except FileNotFoundError:
            raise
        except OSError as error:  # such as a full disk
            self._lines.lose(error)
            return False

    def _prefix(self, name):
        prefix = '["m",%s,' % _quoted(_name(name))
        if len(self._prefixes) < 10_000 and isinstance(name, str):
            self._prefixes[name] = prefix
        return prefix

    def _log_other(self, name, value, step):
        value = _plain(value)
        if isinstance(value, list):
            self.log_list(name, value, step)
        elif isinstance(value, dict):
            self.log_row(name, value, step)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            self._series("m", name, value, step)
        elif value in ("NaN", "Infinity", "-Infinity"):
            self._series("m", name, value, step)
        else:
            self._series("l", name, [_value(value)], step)

    def _series(self, kind, name, content, step):
        line = self._entry([kind, _name(name), content, _step(step)], time())
        if len(line) > LINE_BYTES and kind in "lt":
            for half in _halves(content):
                self._series(kind, name, half, step)
        else:
            self._lines.append(line)

    @staticmethod
    def _entry(entry, at=None):
        if at is not None:
            entry.append(round(at, 3))
        return (json.dumps(entry, separators=(",", ":")) + "\n").encode("ascii")


class Lines:
    """A file of lines that several threads and processes append to. `fd` takes whole lines while all is well; else it is -1."""

    def __init__(self, path):
        self.path = path
        self.fd = -1
        self.dropped = 0
        self._told = 0
        self._open = -1
        self._torn = False
        self._lock = threading.Lock()

    def append(self, line):
        locked = self._lock.acquire(timeout=5)  # a fork may have copied a held lock
        try:
            if self._open < 0:
                self._start()
            if self._torn:
                line = b"\n" + line
            written = _write(self._open, line)
            if written < len(line):
                self._torn = True
                raise OSError(28, "No space left on device")
            self._torn = False
            self.fd = self._open
            if self.dropped > self._told:
                self._tell()
        except OSError as error:
            self.lose(error)
        finally:
            if locked:
                self._lock.release()

    def torn(self):
        """A line was written in part only: the next one begins a new line."""
        self.fd, self._torn = -1, True
        self.lose(OSError(28, "No space left on device"))

    def close(self):
        self.fd = -1
        if self._open >= 0:
            os.close(self._open)
            self._open = -1

    def _start(self):
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        flags = os.O_CREAT | os.O_APPEND | os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        self._open = os.open(self.path, flags, 0o600)
        size = os.lseek(self._open, 0, os.SEEK_END)
        if size > 0:  # what another process may be writing ends with a line end at any moment
            os.lseek(self._open, size - 1, os.SEEK_SET)
            self._torn = os.read(self._open, 1) != b"\n"

    def lose(self, error):
        self.fd = -1
        self.dropped += 1
        if self.dropped == 1:
            import atexit

            _warn("an entry could not be written to %s: %s. Training goes on; what is lost is counted." % (self.path, error.strerror))
            atexit.register(lambda: _warn("%d entries could not be written to %s." % (self.dropped, self.path)))

    def _tell(self):
        self._told = self.dropped
        line = '["tag","stellwerk.dropped","%d"]\n' % self.dropped
        if os.path.basename(self.path) == MAIN and _write(self._open, line.encode()) < len(line):
            self._torn, self.fd = True, -1


def _write_text(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _warn(text):
    try:
        sys.stderr.write("stellwerk: " + text + "\n")
    except (OSError, ValueError, AttributeError):
        pass


def _clip(text, length):
    """Shortens text to so many UTF-16 units, which is what the server counts."""
    if len(text) * 2 <= length:
        return text
    units = text.encode("utf-16-le", "surrogatepass")
    if len(units) <= 2 * length:
        return text
    return units[: 2 * (length - 1)].decode("utf-16-le", "ignore") + "\u2026"


def _name(name):
    return _clip(str(name), NAME_LENGTH) or "(no name)"


def _step(step):
    if step is None:
        return None
    try:
        step = int(step)
    except (TypeError, ValueError, OverflowError):
        return None
    return step if -_LARGEST < step < _LARGEST else None


def _value(value):
    """A plain value as it may stand in a list or a row."""
    if isinstance(value, str):
        return _clip(value, TEXT_LENGTH)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _clip(json.dumps(value), TEXT_LENGTH)


def _plain(value):
    """Turns what a script may give (numpy, torch, pandas, tuples …) into JSON's values; non-finite numbers into text."""
    if value is None or isinstance(value, (str, bool)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, float):
        value = float(value)
        if value - value == 0.0:
            return value
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int):
        return int(value) if -(10**300) < value < 10**300 else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return [_plain(item) for item in value]
    for method in ("item", "tolist"):
        try:
            converted = getattr(value, method)()
        except Exception:  # whatever a foreign object raises, logging goes on
            continue
        if type(converted) is not type(value):
            return _plain(converted)
    try:
        return _plain(float(value)) if hasattr(value, "__float__") else str(value)
    except Exception:
        return "(a %s)" % type(value).__name__


def _halves(content):
    if isinstance(content, list):
        middle = len(content) // 2
        return (content[:middle], content[middle:]) if middle else ()
    middle = max([len(values) for values in content.values() if isinstance(values, list)] or [0]) // 2
    if not middle:
        return ()
    return (
        {key: values[:middle] if isinstance(values, list) else values for key, values in content.items()},
        {key: values[middle:] if isinstance(values, list) else values for key, values in content.items()},
    )
