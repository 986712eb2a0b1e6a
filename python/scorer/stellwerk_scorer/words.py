"""How an exception of the user's code is told to a caller: its kind and message, without paths."""
import re

_PATH = re.compile(r"""(?<![\w/:.])(?:/[^\s'"/:,;()\[\]]+){2,}/?""")


def describe(error):
    text = " ".join(_PATH.sub("<path>", str(error)).split())
    if len(text) > 500:
        text = text[:500] + "…"
    return "%s: %s" % (type(error).__name__, text) if text else type(error).__name__
