"""What /openapi.json names but no JSON schema can say, told to schemathesis."""
import schemathesis
from hypothesis import strategies

part = strategies.text("abcxyz0123456789 .-_äß%#?&", min_size=1, max_size=20).filter(lambda text: text not in (".", ".."))
schemathesis.openapi.format("relative-path", strategies.lists(part, min_size=1, max_size=4).map("/".join))
# A page token is opaque: only the first page's, the empty one, can be made up.
schemathesis.openapi.format("page-token", strategies.just(""))


@schemathesis.check
def document_tells_the_truth(context, response, case):
    """What fits the document may be refused for what a room knows, with its reason, but never because of its shape."""
    generation = case.meta.generation if case.meta else None
    if generation is None or not generation.mode.is_positive or response.status_code != 400:
        return
    details = response.json().get("details") or {}
    if "issues" in details:
        raise AssertionError("Refused by its shape, although the document allows it: %s" % details["issues"])
