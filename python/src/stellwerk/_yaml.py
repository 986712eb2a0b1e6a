"""YAML as everything else of Stellwerk reads it: version 1.2's plain rules, every key with its line, nothing but data.

The wheel brings PyYAML's pure Python part; a source checkout uses an installed one.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Tuple

from ._transport import StellwerkError

Place = Tuple[Any, ...]
# Aliases can make much out of little.
MOST_VALUES = 100_000
# Python itself takes no more digits than 4,300 for a number.
MOST_DIGITS = 1_000


class YamlError(StellwerkError):
    """The text is not YAML, or not the YAML that is wanted; the message names the file and the line."""


# YAML 1.2's core schema; YAML 1.1, PyYAML's own, would read `on`, `no` and `12:30:45` as something else than text.
_INT = re.compile(r"^[-+]?[0-9]+$|^0o[0-7]+$|^0x[0-9a-fA-F]+$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$")
_BOOL = re.compile(r"^(true|True|TRUE|false|False|FALSE)$")
_NULL = re.compile(r"^(~|null|Null|NULL|)$")


def module() -> Any:
    try:
        from ._vendor import yaml
    except ImportError:
        try:
            import yaml  # type: ignore[no-redef]
        except ImportError:
            raise YamlError(
                "YAML files cannot be read here: install the stellwerk wheel, which brings what it needs, or PyYAML."
            ) from None
    return yaml


def load(text: str, source: str = "the YAML text") -> Any:
    """The data of one document; an empty one is None."""
    return load_with_lines(text, source)[0]


def load_with_lines(text: str, source: str = "the YAML text") -> Tuple[Any, Dict[Place, int]]:
    """The data, and the line of each key and element by its path, counting from 1."""
    yaml = module()
    lines: Dict[Place, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = " at line %d, column %d" % (mark.line + 1, mark.column + 1) if mark else ""
        raise YamlError(
            "%s is not valid YAML%s: %s." % (source, where, (error.problem or error.context or "").rstrip("."))
        ) from None
    except RecursionError:
        raise YamlError("%s nests too deeply." % source) from None
    except yaml.YAMLError as error:
        raise YamlError("%s is not valid YAML: %s." % (source, str(error).splitlines()[0])) from None
    return (None if node is None else _value(yaml, node, (), lines, source, 0)), lines


def _value(yaml: Any, node: Any, place: Place, lines: Dict[Place, int], source: str, depth: int) -> Any:
    lines[place] = node.start_mark.line + 1
    if depth > 100:
        raise YamlError("%s nests too deeply at line %d." % (source, lines[place]))
    if len(lines) > MOST_VALUES:
        raise YamlError("%s holds too much: more than %d values." % (source, MOST_VALUES))
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > MOST_DIGITS and node.style is None and _INT.match(node.value):
            raise YamlError("%s has a number of more than %d digits at line %d." % (source, MOST_DIGITS, lines[place]))
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(yaml, one, (*place, index), lines, source, depth + 1) for index, one in enumerate(node.value)]
    made: Dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
        line = key_node.start_mark.line + 1
        if key is None:
            raise YamlError("%s has a key at line %d that is not text." % (source, line))
        if key in made:
            raise YamlError("%s has the key %.200s twice: again at line %d." % (source, key, line))
        made[key] = _value(yaml, value_node, (*place, key), lines, source, depth + 1)
        lines[(*place, key)] = line
    return made


def _scalar(node: Any) -> Any:
    text = node.value
    if node.style is not None:  # quoted, literal or folded
        return text
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text.lower() == "true"
    if _INT.match(text):
        return int(text[2:], 8 if text[1] == "o" else 16) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.match(text):
        lowered = text.lower()
        return float(lowered.replace(".inf", "inf").replace(".nan", "nan"))
    return text


def dump(value: Any) -> str:
    """YAML that readers of versions 1.1 and 1.2 understand alike, in the order of the keys."""
    yaml = module()

    class Dumper(yaml.SafeDumper):  # type: ignore[name-defined, misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    # What 1.2 would not take for text is quoted too.
    for tag, pattern in (("int", _INT), ("float", _FLOAT), ("bool", _BOOL), ("null", _NULL)):
        Dumper.add_implicit_resolver("tag:yaml.org,2002:" + tag, pattern, None)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1000)


def read(path: Any) -> Tuple[Any, Dict[Place, int]]:
    """A YAML file's data and lines."""
    with open(path, encoding="utf-8-sig") as file:
        try:
            text = file.read()
        except UnicodeDecodeError:
            raise YamlError("%s is not valid YAML: it is not text in UTF-8." % path) from None
    return load_with_lines(text, str(path))
