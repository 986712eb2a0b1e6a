"""What a folder's ignore files leave out: `.amlignore`, or `.gitignore` where there is none, in every folder, as git reads them."""

from __future__ import annotations

import os
import re

# Never part of a snapshot, whatever the ignore files say.
ALWAYS = frozenset((".git", ".hg", ".svn", ".stellwerk", ".azureml", "__pycache__", ".ipynb_checkpoints", ".DS_Store"))
_NAMES = (".amlignore", ".gitignore")
_CLASSES = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\s",
    "xdigit": "0-9a-fA-F", "blank": r" \t", "punct": r"!-/:-@\[-`{-~",
}  # fmt: skip


class Rules:
    """The patterns of one ignore file. `says` is True (left out), False (taken in again) or None."""

    def __init__(self, text):
        self._rules = [rule for rule in map(_rule, text.lstrip("\ufeff").split("\n")) if rule]
        anything = "|".join("(?:%s)" % pattern for pattern, _, _ in self._rules)
        self._any = re.compile(anything, re.S) if anything else None
        self._rules = [(re.compile(pattern, re.S), out, folders) for pattern, out, folders in reversed(self._rules)]

    def says(self, path, is_folder):
        if self._any is None or not self._any.fullmatch(path):
            return None
        for pattern, out, folders in self._rules:
            if (is_folder or not folders) and pattern.fullmatch(path):
                return out
        return None


class Ignored:
    """The ignore files that hold in a folder: its own and those above."""

    def __init__(self, stack=()):
        self._stack = stack

    def entering(self, place, folder):
        """With the ignore file of a folder. `place` is where it lies, `folder` its path below the root."""
        for name in _NAMES:
            try:
                with open(os.path.join(place, name), encoding="utf-8", errors="surrogateescape", newline="") as file:
                    return Ignored(((len(folder) + 1 if folder else 0, Rules(file.read())),) + self._stack)
            except (FileNotFoundError, IsADirectoryError):
                continue
        return self

    def leaves_out(self, path, is_folder):
        """The deepest file that says something of the path decides."""
        for start, rules in self._stack:
            said = rules.says(path[start:], is_folder)
            if said is not None:
                return said
        return False


def _rule(line):
    """(regular expression, leaves out, only folders) of a line, or None."""
    line = line[:-1] if line.endswith("\r") else line
    if line.startswith("#"):
        return None
    line = re.sub(r"(?<!\\) +$", "", line)
    out = not line.startswith("!")
    line = line if out else line[1:]
    folders = line.endswith("/")
    line = line[:-1] if folders else line
    if not line:
        return None
    anchored = "/" in line
    pattern = _expression(line[1:] if line.startswith("/") else line)
    if pattern is None:
        return None
    return (pattern if anchored else "(?:.*/)?" + pattern), out, folders


def _expression(glob):
    parts, at, end = [], 0, len(glob)
    while at < end:
        letter = glob[at]
        begins = at == 0 or glob[at - 1] == "/"
        if letter == "*":
            stars = len(glob[at:]) - len(glob[at:].lstrip("*"))
            after = at + stars
            if stars == 2 and begins and glob[after : after + 1] == "/":
                parts.append("(?:.*/)?")
                after += 1
            elif stars == 2 and begins and after == end:
                parts.append(".+")
            else:
                parts.append("[^/]*")
            at = after
        elif letter == "?":
            parts.append("[^/]")
            at += 1
        elif letter == "[":
            read = _class(glob, at)
            if read is None:
                return None
            parts.append(read[0])
            at = read[1]
        elif letter == "\\":
            if at + 1 == end:
                return None
            parts.append(re.escape(glob[at + 1]))
            at += 2
        else:
            parts.append(re.escape(letter))
            at += 1
    return "".join(parts)


def _class(glob, at):
    """A bracket expression: (regular expression, where it ends), or None if it does not end."""
    at += 1
    negated = glob[at : at + 1] in ("!", "^")
    at += negated
    content, first = [], True
    while at < len(glob) and (glob[at] != "]" or first):
        first = False
        named = re.match(r"\[:(\w+):\]", glob[at:])
        if named:
            content.append(_CLASSES.get(named.group(1), ""))
            at += named.end()
            continue
        if glob[at] == "\\" and at + 1 < len(glob):
            at += 1
            content.append("\\" + glob[at] if not glob[at].isalnum() else glob[at])
        else:
            content.append(glob[at] if glob[at] == "-" or glob[at].isalnum() else "\\" + glob[at])
        at += 1
    if at >= len(glob):
        return None
    text = "(?!/)[%s%s]" % ("^" if negated else "", "".join(content))
    try:
        re.compile(text)
    except re.error:  # such as a range that runs backwards, which matches nothing
        text = "(?!)"
    return text, at + 1
