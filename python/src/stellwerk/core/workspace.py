"""The workspace: where compute targets, experiments, models, images, web services and datastores are.

Its connection is kept in `.stellwerk/config.json` beside the user's work, found from any folder below.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Union

from .._show import html_of_fields
from ..client import Client, Record
from .authentication import AbstractAuthentication, client_of
from .exceptions import UserErrorException
from .keyvault import Keyvault

if TYPE_CHECKING:
    from .compute import ComputeTarget
    from .datastore import Datastore
    from .experiment import Experiment
    from .image import Image
    from .model import Model
    from .webservice import Webservice

CONFIG_PLACES = (".stellwerk/config.json", ".azureml/config.json", "aml_config/config.json", "config.json")
LABELS = ("subscription_id", "resource_group", "location", "sku")


class Workspace:
    """A workspace on a server. What Azure ML calls subscription, resource group and location are labels here."""

    def __init__(
        self,
        subscription_id: Optional[str] = None,
        resource_group: Optional[str] = None,
        workspace_name: Optional[str] = None,
        auth: Optional[AbstractAuthentication] = None,
        *,
        url: Optional[str] = None,
        **_: Any,
    ) -> None:
        if not workspace_name:
            raise UserErrorException("Name the workspace: Workspace.get('name'), or Workspace.from_config().")
        self.client = client_of(auth, url)
        self._known: Optional[Record] = self.client.workspaces.get(workspace_name)
        self._name: str = self._known["name"]

    @classmethod
    def _of(cls, client: Client, record: Record) -> "Workspace":
        made = cls._named(client, record["name"])
        made._known = record
        return made

    @classmethod
    def _named(cls, client: Client, name: str) -> "Workspace":
        """Not asked about yet: a run's own token may not see the workspace's record."""
        made = cls.__new__(cls)
        made.client, made._name, made._known = client, name, None
        return made

    @property
    def _record(self) -> Record:
        if self._known is None:
            self._known = self.client.workspaces.get(self._name)
        return self._known

    @staticmethod
    def create(
        name: str,
        auth: Optional[AbstractAuthentication] = None,
        subscription_id: Optional[str] = None,
        resource_group: Optional[str] = None,
        location: Optional[str] = None,
        create_resource_group: bool = True,
        sku: Optional[str] = None,
        tags: Optional[Mapping[str, str]] = None,
        friendly_name: Optional[str] = None,
        exist_ok: bool = False,
        show_output: bool = True,
        *,
        description: Optional[str] = None,
        url: Optional[str] = None,
        **_: Any,
    ) -> "Workspace":
        """Creates the workspace with its associated resources; with `exist_ok` takes the one that is there."""
        client = client_of(auth, url)
        given = {"subscription_id": subscription_id, "resource_group": resource_group, "location": location, "sku": sku}
        labels = {key: str(value) for key, value in given.items() if value is not None}
        record = client.workspaces.create(
            name, display_name=friendly_name, description=description, tags=tags, labels=labels or None, exist_ok=exist_ok or None
        )
        return Workspace._of(client, record)

    @staticmethod
    def get(
        name: str,
        auth: Optional[AbstractAuthentication] = None,
        subscription_id: Optional[str] = None,
        resource_group: Optional[str] = None,
        location: Optional[str] = None,
        *,
        url: Optional[str] = None,
        **_: Any,
    ) -> "Workspace":
        return Workspace(subscription_id, resource_group, name, auth, url=url)

    @staticmethod
    def list(
        subscription_id: Optional[str] = None,
        auth: Optional[AbstractAuthentication] = None,
        resource_group: Optional[str] = None,
        *,
        url: Optional[str] = None,
    ) -> Dict[str, List["Workspace"]]:
        """The workspaces in which you have a role, by name."""
        client = client_of(auth, url)
        found: Dict[str, List[Workspace]] = {}
        for record in client.workspaces.list().all():
            labels = record["labels"]
            wanted = (("subscription_id", subscription_id), ("resource_group", resource_group))
            if all(value is None or labels.get(key, value) == value for key, value in wanted):
                found.setdefault(record["name"], []).append(Workspace._of(client, record))
        return found

    @staticmethod
    def from_config(
        path: Optional[str] = None,
        auth: Optional[AbstractAuthentication] = None,
        _logger: Any = None,
        _file_name: Optional[str] = None,
    ) -> "Workspace":
        """The workspace that the nearest config file names, from `path` (a file or folder; the current one unless given) upwards.

        Without `path`, STELLWERK_WORKSPACE may name it, as for the command line.
        """
        if path is None and os.environ.get("STELLWERK_WORKSPACE"):
            return Workspace(workspace_name=os.environ["STELLWERK_WORKSPACE"], auth=auth)
        file = find_config(path or os.getcwd(), _file_name)
        config = read_config(file)
        return Workspace(workspace_name=config["workspace_name"], auth=auth, url=config.get("url"))

    def write_config(self, path: Optional[str] = None, file_name: Optional[str] = None) -> str:
        """Keeps the connection (no secret) in `<path>/.stellwerk/config.json`; returns the file's path."""
        folder = os.path.join(path or os.getcwd(), ".stellwerk")
        os.makedirs(folder, exist_ok=True)
        target = os.path.join(folder, file_name or "config.json")
        labels = {key: value for key, value in self._record["labels"].items() if key in LABELS}
        with open(target, "w", encoding="utf-8", newline="\n") as file:
            json.dump({**labels, "url": self.client.url, "workspace_name": self.name}, file, indent=2)
            file.write("\n")
        return target

    @property
    def name(self) -> str:
        return self._name

    @property
    def id(self) -> str:
        return self._record["id"]

    @property
    def subscription_id(self) -> Optional[str]:
        return self._record["labels"].get("subscription_id")

    @property
    def resource_group(self) -> Optional[str]:
        return self._record["labels"].get("resource_group")

    @property
    def location(self) -> Optional[str]:
        return self._record["labels"].get("location")

    @property
    def sku(self) -> Optional[str]:
        return self._record["labels"].get("sku")

    @property
    def tags(self) -> Dict[str, str]:
        return dict(self._record["tags"])

    def get_details(self) -> Dict[str, Any]:
        """What is known of it, as Azure ML's SDK names it, and the whole record beside."""
        self._known = record = self.client.workspaces.get(self.name)
        resources = record["resources"]
        return {
            "id": record["id"],
            "name": record["name"],
            "location": self.location,
            "type": "Workspace",
            "tags": dict(record["tags"]),
            "workspaceid": record["id"],
            "description": record.get("description", ""),
            "friendlyName": record.get("displayName", record["name"]),
            "creationTime": record["createdAt"],
            "createdBy": record["createdBy"],
            "containerRegistry": resources["containerRegistry"],
            "keyVault": resources["keyVault"],
            "applicationInsights": resources["applicationInsights"],
            "storageAccount": resources["storageAccount"],
            "defaultDatastore": record["defaultDatastore"],
            "labels": dict(record["labels"]),
            "url": self.client.url,
        }

    def update(
        self,
        friendly_name: Optional[str] = None,
        description: Optional[str] = None,
        tags: Optional[Mapping[str, str]] = None,
        **_: Any,
    ) -> Dict[str, Any]:
        self._known = self.client.workspaces.update(self.name, display_name=friendly_name, description=description, tags=tags)
        return self.get_details()

    def delete(self, delete_dependent_resources: bool = False, no_wait: bool = False) -> None:
        """Deletes the workspace with everything in it."""
        self.client.workspaces.delete(self.name)

    def get_default_keyvault(self) -> Keyvault:
        """The secrets of the workspace."""
        return Keyvault(self)

    def list_trash(self, kind: Optional[str] = None) -> List[Record]:
        """What lies in the trash, the last deleted first; `kind` is `run`, `experiment` or `model`."""
        return [*self.client.trash.list(self.name, kind=kind).all()]

    def restore(self, entry: Union[int, Record]) -> None:
        """Brings an entry of the trash back, with all that was deleted with it: its `id`, or what `delete()` returned."""
        self.client.trash.restore(self.name, entry_id(entry))

    def empty_trash(self, entry: Union[None, int, Record] = None, dry_run: bool = False) -> Dict[str, Any]:
        """Deletes for good what lies in the trash, or one entry of it. With `dry_run` it deletes nothing and tells what that would free.

        Returns how many runs, models, files and bytes, `freedBytes` being those of what nothing else refers to.
        """
        one = None if entry is None else entry_id(entry)
        activity = self.client.trash.empty(self.name, entry=one, dry_run=dry_run)
        activity.wait()
        return dict(activity["report"])

    @property
    def experiments(self) -> Dict[str, "Experiment"]:
        from .experiment import Experiment

        return {one.name: one for one in Experiment.list(self)}

    @property
    def compute_targets(self) -> Dict[str, "ComputeTarget"]:
        from .compute import ComputeTarget

        return {one.name: one for one in ComputeTarget.list(self)}

    @property
    def datastores(self) -> Dict[str, "Datastore"]:
        from .datastore import Datastore

        return {one.name: one for one in Datastore.list(self)}

    @property
    def models(self) -> Dict[str, "Model"]:
        """The latest version of each model, by name."""
        from .model import Model

        return {one.name: one for one in Model.list(self, latest=True)}

    @property
    def images(self) -> Dict[str, "Image"]:
        """The latest version of each image, by name."""
        from .image import Image

        found: Dict[str, Image] = {}
        for one in Image.list(self):
            found.setdefault(one.name, one)
        return found

    @property
    def webservices(self) -> Dict[str, "Webservice"]:
        from .webservice import Webservice

        return {one.name: one for one in Webservice.list(self)}

    def get_default_datastore(self) -> "Datastore":
        from .datastore import Datastore

        return Datastore.get_default(self)

    def get_portal_url(self) -> str:
        """The server's own page: there is no page of a workspace."""
        return self.client.url

    def __repr__(self) -> str:
        return "Workspace(name=%r, url=%r)" % (self.name, self.client.url)

    def _repr_html_(self) -> str:
        record = self._record
        fields = {
            "Name": record["name"],
            "Description": record.get("description"),
            "Server": self.client.url,
            "Tags": record["tags"] or None,
        }
        return html_of_fields("Workspace", fields)


def entry_id(entry: Union[int, Record]) -> int:
    return entry if isinstance(entry, int) else entry["id"]


def find_config(start: str, file_name: Optional[str] = None) -> str:
    if os.path.isfile(start):
        return start
    folder = os.path.abspath(start)
    names = [os.path.join(os.path.dirname(place), file_name) for place in CONFIG_PLACES] if file_name else CONFIG_PLACES
    while True:
        for name in names:
            file = os.path.join(folder, name)
            if os.path.isfile(file) and (name != "config.json" or names_workspace(file)):
                return file
        if os.path.dirname(folder) == folder:
            break
        folder = os.path.dirname(folder)
    raise UserErrorException(
        "No workspace is configured in %s or above it. Write `.stellwerk/config.json` with Workspace.get('name').write_config(), or `stellwerk init`."
        % start
    )


def names_workspace(file: str) -> bool:
    """Many a program keeps a `config.json`; only one that names a workspace is ours."""
    try:
        read_config(file)
    except (UserErrorException, OSError):
        return False
    return True


def read_config(file: str) -> Dict[str, Any]:
    try:
        with open(file, encoding="utf-8-sig") as opened:
            config = json.load(opened)
        name = config.get("workspace_name") or config.get("workspace")
    except (ValueError, AttributeError) as error:
        raise UserErrorException("%s is not a workspace's config file: %s." % (file, error)) from None
    if not isinstance(name, str):
        raise UserErrorException("%s names no workspace; it needs `workspace_name`." % file)
    return dict(config, workspace_name=name)
