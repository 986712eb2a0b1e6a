"""What the scorer is told through its environment, and the defaults."""
import os


class Settings:
    def __init__(self, app_dir, entry, models_dir, socket_path, host, port, workers, max_waiting, body_limit, timeout_s):
        self.app_dir = app_dir
        self.entry = entry
        self.models_dir = models_dir
        #: A Unix socket to listen on; without one, host and port.
        self.socket_path = socket_path
        self.host = host
        self.port = port
        #: Threads that call run(). With one, run() need not be thread-safe.
        self.workers = workers
        #: Requests that may wait for a thread; further ones are told to come back.
        self.max_waiting = max_waiting
        self.body_limit = body_limit
        self.timeout_s = timeout_s


def read(environ):
    def number(name, default):
        text = environ.get(name) or str(default)
        if not text.isdigit() or int(text) == 0:
            raise SystemExit("The environment variable %s has to be a whole number above 0, not %r." % (name, text))
        return int(text)

    return Settings(
        app_dir=environ.get("STELLWERK_APP_DIR") or "/var/stellwerk/app",
        entry=environ.get("STELLWERK_ENTRY") or "score.py",
        models_dir=environ.get("AZUREML_MODEL_DIR") or "/var/stellwerk/models",
        socket_path=environ.get("STELLWERK_SOCKET") or None,
        host=environ.get("STELLWERK_HOST") or "0.0.0.0",
        port=number("STELLWERK_PORT", 8080),
        workers=number("STELLWERK_WORKERS", 1),
        max_waiting=number("STELLWERK_MAX_WAITING", 100),
        body_limit=number("STELLWERK_BODY_LIMIT", 64 * 1024 * 1024),
        timeout_s=number("STELLWERK_SCORING_TIMEOUT_MS", 60000) / 1000,
    )


def point_at_single_model(models_dir, environ):
    """Azure ML v1 sets AZUREML_MODEL_DIR to the model's own folder if there is just one, else to the folder of all."""
    environ["STELLWERK_MODELS_DIR"] = environ["AZUREML_MODEL_DIR"] = models_dir
    versions = [
        os.path.join(models_dir, name, version) for name in folders(models_dir) for version in folders(os.path.join(models_dir, name))
    ]
    if len(versions) == 1:
        environ["AZUREML_MODEL_DIR"] = versions[0]


def folders(parent):
    try:
        return sorted(e.name for e in os.scandir(parent) if e.is_dir())
    except OSError:
        return []
