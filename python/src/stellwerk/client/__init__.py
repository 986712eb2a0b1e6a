"""The server's verbs as Python calls: `Client(url, token).runs.submit(workspace=..., experiment=..., ...)`.

One call per verb of the contract, named as in the API and the command line. Answers are records: dicts whose fields can be read as
attributes. A refusal is a ServiceError with a stable `reason`; where nothing answers, it is Unreachable.
"""

from __future__ import annotations

from typing import Optional, Type

from .._transport import ServiceError, Transport, Unreachable
from .activity import Activity, ActivityFailed
from .calls import Calls
from .download import Download
from .records import Page, Record
from .sign_in import Credentials, SignInNeeded, find_credentials
from .verbs import Nouns

__all__ = [
    "Activity",
    "ActivityFailed",
    "Client",
    "Credentials",
    "Download",
    "Page",
    "Record",
    "ServiceError",
    "SignInNeeded",
    "Unreachable",
]


class Client(Nouns):
    """One server, as one user. Without arguments: as signed in with `stellwerk login`, or by STELLWERK_URL and STELLWERK_TOKEN.

    May be used from several threads. `ca_bundle` names a file of PEM certificates to trust.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        token: Optional[str] = None,
        ca_bundle: Optional[str] = None,
        transport: Type[Transport] = Transport,
    ) -> None:
        found = find_credentials(url, token)
        self.url = found.url.rstrip("/")
        self.transport = transport(self.url, found.token, ca_bundle or found.ca_bundle)
        super().__init__(Calls(self.transport))

    @classmethod
    def over(cls, transport: Transport) -> "Client":
        """Over a connection that is there already."""
        client = cls.__new__(cls)
        client.url, client.transport = transport.url, transport
        Nouns.__init__(client, Calls(transport))
        return client

    @classmethod
    def without_token(cls, url: str, ca_bundle: Optional[str] = None) -> "Client":
        """For the verbs that anyone may call: signing in, and what the server is."""
        return cls.over(Transport(url.rstrip("/"), None, ca_bundle))

    def __repr__(self) -> str:
        return "Client(%r)" % self.url
