"""Inside an image: where its models are, and the request and response objects of Azure ML v1's raw HTTP scoring.

The packages `azureml` and `stellwerk` beside this file only give these names their places; they stand last on the import path, so a real
SDK in the image comes first. Standard library only.
"""
import json
import os
from email.parser import BytesParser
from email.policy import HTTP
from io import BytesIO
from urllib.parse import parse_qsl


class ModelNotFoundException(Exception):
    """The name that Azure ML v1 gives it."""


class Model:
    """A model in the image. Only get_model_path works here; the registry is not within reach of a scoring script."""

    @staticmethod
    def get_model_path(model_name, version=None, _workspace=None):
        root = os.environ.get("STELLWERK_MODELS_DIR") or os.environ.get("AZUREML_MODEL_DIR") or "/var/stellwerk/models"
        folder = os.path.join(root, model_name)
        versions = _names(folder)
        if not versions:
            held = ", ".join(_names(root)) or "no models"
            raise ModelNotFoundException("Model %r is not in this image, which holds %s." % (model_name, held))
        if version is not None and str(version) not in versions:
            message = "Version %s of model %r is not in this image, which holds version %s."
            raise ModelNotFoundException(message % (version, model_name, ", ".join(versions)))
        chosen = str(version) if version is not None else max(versions, key=_as_number)
        return _file_or_folder(os.path.join(folder, chosen))


def _names(folder):
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _as_number(version):
    return (int(version), "") if version.isdigit() else (-1, version)


def _file_or_folder(folder):
    """A model that is one file is that file; one of several files is its folder."""
    names = _names(folder)
    single = os.path.join(folder, names[0]) if len(names) == 1 else folder
    return single if os.path.isfile(single) else folder


class Headers(dict):
    """Header names without regard to case."""

    def get(self, name, default=None):
        return super().get(name.lower(), default)

    def __getitem__(self, name):
        return super().__getitem__(name.lower())

    def __contains__(self, name):
        return super().__contains__(name.lower())


class Args(dict):
    """The first value of each name, and all of them with getlist."""

    def __init__(self, pairs):
        super().__init__(reversed(pairs))
        self._pairs = pairs

    def getlist(self, name):
        return [value for key, value in self._pairs if key == name]

    def to_dict(self):
        return dict(self)


class AMLRequest:
    """An HTTP request as a script gets it whose run() is marked with @rawhttp."""

    def __init__(self, scope, body):
        query = scope["query_string"].decode("latin-1")
        self.method = scope["method"]
        self.path = scope["path"]
        self.query_string = scope["query_string"]
        self.full_path = self.path + "?" + query
        self.headers = Headers((n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"])
        self.args = Args(parse_qsl(query, keep_blank_values=True))
        self.content_type = self.headers.get("content-type")
        self.mimetype = (self.content_type or "").split(";")[0].strip().lower()
        self.content_length = len(body)
        self.data = body

    def get_data(self, cache=True, as_text=False, parse_form_data=False):
        return self.data.decode("utf-8") if as_text else self.data

    def get_json(self, force=False, silent=False, cache=True):
        if not force and not self.is_json:
            return None
        try:
            return json.loads(self.data.decode("utf-8"))
        except ValueError:
            if silent:
                return None
            raise

    @property
    def json(self):
        return self.get_json()

    @property
    def is_json(self):
        return self.mimetype == "application/json" or self.mimetype.endswith("+json")

    @property
    def form(self):
        if self.mimetype == "application/x-www-form-urlencoded":
            return Args(parse_qsl(self.data.decode("utf-8"), keep_blank_values=True))
        return Args([(name, part.get_payload(decode=True).decode("utf-8")) for name, part in self._parts() if part.get_filename() is None])

    @property
    def files(self):
        return Args([(name, _Upload(part)) for name, part in self._parts() if part.get_filename() is not None])

    def _parts(self):
        if self.mimetype != "multipart/form-data":
            return []
        head = b"Content-Type: " + self.content_type.encode("latin-1") + b"\r\n\r\n"
        message = BytesParser(policy=HTTP).parsebytes(head + self.data)
        return [(part.get_param("name", header="content-disposition"), part) for part in message.iter_parts()]


class _Upload(BytesIO):
    """A file of a form: read like any open file."""

    def __init__(self, part):
        super().__init__(part.get_payload(decode=True))
        self.filename = part.get_filename()
        self.content_type = part.get_content_type()


def rawhttp(run):
    """Marks run(): it is given the whole request."""
    run.raw_http = True
    return run


class AMLResponse:
    """An HTTP answer that run() makes itself."""

    def __init__(self, message, status_code, response_headers=None, json_str=False, run_function_failed=False):
        self.message = message
        self.status_code = status_code
        self.headers = dict(response_headers or {})
        self.json_str = json_str

    def set_data(self, data):
        self.message = data

    def stellwerk_response(self, to_json):
        headers = [(n.lower().encode("latin-1"), str(v).encode("latin-1")) for n, v in self.headers.items()]
        if self.json_str or not isinstance(self.message, (str, bytes, bytearray)):
            kind, body = b"application/json", to_json(self.message)
        else:
            kind, body = b"text/html; charset=utf-8", self.message
        if not any(name == b"content-type" for name, _ in headers):
            headers.append((b"content-type", kind))
        return self.status_code, headers, body.encode("utf-8") if isinstance(body, str) else bytes(body)
