"""Stellwerk: an open, self-hosted machine-learning service.

`stellwerk.core` has the workspace, experiments and runs; `stellwerk.client` has one call per verb of the API.
Importing this package imports nothing else; what it offers is loaded when it is first used.
"""

_PLACES = {
    "Client": "stellwerk.client",
    "ServiceError": "stellwerk._transport",
    "StellwerkError": "stellwerk._transport",
    "Unreachable": "stellwerk._transport",
    "Workspace": "stellwerk.core",
    "Experiment": "stellwerk.core",
    "Run": "stellwerk.core",
}


def __getattr__(name):
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(_PLACES[name]), name)
    if name == "__version__":
        try:
            from stellwerk._version import VERSION  # made with the wheel
        except ImportError:
            VERSION = "0+checkout"
        return VERSION
    raise AttributeError("module 'stellwerk' has no attribute %r" % name)


def __dir__():
    return sorted(list(globals()) + list(_PLACES))
