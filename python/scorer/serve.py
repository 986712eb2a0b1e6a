"""Serves a model from inside its image: loads score.py, calls init() once and run(data) for each request.

Invariants: the user's code sees its own packages only (ours are loaded first and then hidden, never on its path before
or instead of its own); what it prints goes to standard output; SIGTERM lets the requests in flight end.
"""
import asyncio
import logging
import os
import signal
import sys
import sysconfig

HERE = os.path.dirname(os.path.abspath(__file__))


def packages_folder():
    """The folder of this image layer that holds uvicorn and what it needs."""
    version = "python%d.%d" % sys.version_info[:2]
    parent = os.path.dirname(HERE)
    for folder in (
        os.environ.get("STELLWERK_SCORER_PACKAGES", ""),
        os.path.join(parent, "lib", version, "site-packages"),
        parent,
        os.path.join(HERE, "packages"),
    ):
        if folder and os.path.isfile(os.path.join(folder, "uvicorn", "__init__.py")):
            return folder
    sys.exit("The scorer's packages are not in this image: no folder near %s holds uvicorn." % HERE)


def standard_library():
    """The import path with nothing on it but Python itself."""
    roots = {os.path.realpath(sysconfig.get_paths()[name]) for name in ("stdlib", "platstdlib")}
    roots |= {os.path.join(root, "lib-dynload") for root in roots}
    return [p for p in sys.path if p.endswith(".zip") or os.path.realpath(p) in roots]


def under(folder, module):
    file = getattr(module, "__file__", None)
    return bool(file) and os.path.abspath(file).startswith(folder + os.sep)


def make_server():
    """uvicorn's server around our app, loaded completely; afterwards none of its packages can be imported any more."""
    users_path, folder = [p for p in sys.path if os.path.abspath(p) != HERE], packages_folder()
    before = dict(sys.modules)
    sys.path[:] = [HERE, folder] + standard_library()
    try:
        import uvicorn
        from stellwerk_scorer import settings
        from stellwerk_scorer.app import App

        app = App(settings.read(os.environ))
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            # Longer than the gateway keeps an idle connection, so that it is never we who close one it is about to use.
            timeout_keep_alive=3600,
            timeout_graceful_shutdown=int(app.settings.timeout_s) + 5,
            backlog=512,
        )
        config.load()
        server = uvicorn.Server(config)
    finally:
        sys.path[:] = users_path
    for name, module in list(sys.modules.items()):
        if name not in before and (under(folder, module) and not under(HERE, module)):
            del sys.modules[name]
    # Last on the path, so that a real azureml or stellwerk in the image comes first.
    sys.path.append(os.path.join(HERE, "shims"))
    return server, app


def main():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    server, app = make_server()
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    # uvicorn ends by raising the signal that stopped it once more; a stop that was asked for is no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    app.start()
    asyncio.run(server.serve(sockets=[app.listen()]))
    sys.exit(app.stop())


if __name__ == "__main__":
    main()
