"""What run() returned, as the bytes, status and headers of an HTTP answer.

As in Azure ML v1 the value is encoded as JSON, a str too; numpy arrays and scalars and pandas frames are understood without
importing either. A response object (AMLResponse) is taken as it is.
"""
import json
import math

JSON = b"application/json"


def encode(value):
    """(status, [(name, value)], body)"""
    if hasattr(value, "stellwerk_response"):
        return value.stellwerk_response(to_json)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return 200, [(b"content-type", b"application/octet-stream")], bytes(value)
    return 200, [(b"content-type", JSON)], to_json(value)


def to_json(value):
    try:
        text = json.dumps(value, default=plain, allow_nan=False)
    except ValueError:
        # NaN and the infinities do not exist in JSON; null is how its readers expect "no number".
        text = json.dumps(finite(json.loads(json.dumps(value, default=plain))), allow_nan=False)
    return text.encode("utf-8")


def plain(value):
    for method, arguments in (("to_dict", {"orient": "records"}), ("tolist", {}), ("isoformat", {})):
        convert = getattr(value, method, None)
        if callable(convert):
            try:
                return convert(**arguments)
            except TypeError:
                continue
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8")
    raise TypeError("run() returned a %s, which is not JSON serializable" % type(value).__name__)


def finite(value):
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return value
