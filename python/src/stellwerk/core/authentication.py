"""Who calls the server. Without any of these: as signed in with `stellwerk login`, or by STELLWERK_URL and STELLWERK_TOKEN.

Names and arguments are those of Azure ML's SDK; tenants and clouds have no meaning here.
"""

from __future__ import annotations

import getpass
import sys
from typing import Any, Callable, Optional

from .._transport import Transport
from ..client import Client, Credentials, SignInNeeded
from ..client.sign_in import find_credentials, keep_credentials, plain_url
from .exceptions import AuthenticationException, ServiceError, named_as_before


class NamingTransport(Transport):
    """Raises what the server refuses under the names that code for Azure ML catches."""

    def request(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().request(*arguments, **options)
        except ServiceError as error:
            raise named_as_before(error) from None


class AbstractAuthentication:
    """`url` is the server; the current one, or STELLWERK_URL, unless given."""

    def __init__(self, url: Optional[str] = None, ca_bundle: Optional[str] = None) -> None:
        self.url = url
        self.ca_bundle = ca_bundle

    def token(self) -> Optional[str]:
        """A token, or None for the one that is kept for the server."""
        return None

    def client(self, url: Optional[str] = None) -> Client:
        try:
            return Client(self.url or url, self.token(), self.ca_bundle, transport=NamingTransport)
        except SignInNeeded as error:
            raise AuthenticationException(str(error)) from None

    def get_authentication_header(self) -> dict:
        return {"Authorization": "Bearer %s" % self.client().transport.token}


class InteractiveLoginAuthentication(AbstractAuthentication):
    """As signed in; where nobody is and a person sits there (or with `force`), asks for a user and password, or a sign-in link's code."""

    def __init__(
        self, force: bool = False, tenant_id: Optional[str] = None, cloud: Any = None, url: Optional[str] = None
    ) -> None:
        super().__init__(url)
        self.force = force

    def client(self, url: Optional[str] = None) -> Client:
        wanted = self.url or url
        try:
            if self.force:
                raise SignInNeeded("A new sign-in was asked for.")
            find_credentials(wanted)
        except SignInNeeded as error:
            if not sys.stdin or not sys.stdin.isatty():
                raise AuthenticationException(str(error)) from None
            sign_in(wanted)
            self.force = False
        return super().client(url)


class ServicePrincipalAuthentication(AbstractAuthentication):
    """For programs: `service_principal_password` is a token of the service principal (`stellwerk token create`)."""

    def __init__(
        self,
        tenant_id: Optional[str],
        service_principal_id: str,
        service_principal_password: str,
        cloud: Any = None,
        url: Optional[str] = None,
        **_: Any,
    ) -> None:
        super().__init__(url)
        self.service_principal_id = service_principal_id
        self._password = service_principal_password

    def token(self) -> Optional[str]:
        return self._password


class TokenAuthentication(AbstractAuthentication):
    """A token, or a function that gives one."""

    def __init__(
        self, get_token_for_audience: Any, cloud: Any = None, url: Optional[str] = None, ca_bundle: Optional[str] = None
    ) -> None:
        super().__init__(url, ca_bundle)
        self._get: Callable[..., str] = (
            get_token_for_audience if callable(get_token_for_audience) else lambda *_: get_token_for_audience
        )

    def token(self) -> Optional[str]:
        try:
            return self._get()
        except TypeError:
            return self._get("stellwerk")


AzureCliAuthentication = InteractiveLoginAuthentication
MsiAuthentication = AbstractAuthentication


def client_of(auth: Optional[AbstractAuthentication], url: Optional[str] = None) -> Client:
    return (auth or InteractiveLoginAuthentication()).client(url)


def sign_in(
    url: Optional[str] = None,
    code: Optional[str] = None,
    user: Optional[str] = None,
    token: Optional[str] = None,
    ca_bundle: Optional[str] = None,
) -> Credentials:
    """Signs in and keeps it for this user; asks for what is not given. A sign-in link may stand for the address."""
    address = url or input("Server address or sign-in link: ").strip()
    address, _, fragment = address.partition("#")
    code = code or fragment.rpartition("=")[2] or None
    if code:
        address = address.split("/sign-in")[0]
    asked = Client.without_token(plain_url(address), ca_bundle)
    if token is None and code:
        token = asked.sign_ins.redeem(code, token_name="Python SDK")["token"]
    elif token is None:
        user = user or input("User (empty to give a token): ").strip()
        if user:
            token = asked.sign_ins.create(user, getpass.getpass("Password: "), token_name="Python SDK")["token"]
        else:
            token = getpass.getpass("Token: ").strip()
    credentials = Credentials(plain_url(address), token, ca_bundle)
    Client(credentials.url, token, ca_bundle).me.get()
    keep_credentials(credentials)
    return credentials
