"""The module, class and method names of Azure ML's SDK v1 (`azureml.core`): code moves over by changing the import."""

from .. import __version__ as VERSION
from .compute import (
    AksCompute,
    AmlCompute,
    BatchAiCompute,
    ComputeTarget,
    DockerCompute,
    DsvmCompute,
    HDInsightCompute,
    RemoteCompute,
    SlurmCompute,
)
from .compute_target import LocalTarget
from .conda_dependencies import CondaDependencies
from .datastore import Datastore
from .environment import Environment
from .experiment import Experiment
from .image import ContainerImage, Image
from .model import Model
from .run import Run, ScriptRun, get_run
from .runconfig import RunConfiguration
from .script_run_config import ScriptRunConfig
from .webservice import Webservice
from .workspace import Workspace

__all__ = [
    "AksCompute",
    "AmlCompute",
    "BatchAiCompute",
    "ComputeTarget",
    "CondaDependencies",
    "ContainerImage",
    "Datastore",
    "DockerCompute",
    "DsvmCompute",
    "Environment",
    "Experiment",
    "Image",
    "LocalTarget",
    "Model",
    "Run",
    "RemoteCompute",
    "RunConfiguration",
    "ScriptRun",
    "ScriptRunConfig",
    "VERSION",
    "Webservice",
    "Workspace",
    "get_run",
]
