# The cells of a notebook for Azure ML SDK v1, in the order and with the arguments that its tutorials of 2018 have.
import json
import os

import azureml.core
from azureml.core import Experiment, Run, ScriptRunConfig, Workspace
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.image import ContainerImage
from azureml.core.model import Model
from azureml.core.runconfig import RunConfiguration
from azureml.core.webservice import AciWebservice, Webservice

print("Azure ML SDK Version: ", azureml.core.VERSION)
ws = Workspace.create(
    name="docs-ws",
    subscription_id="12345678-1234-1234-1234-123456789012",
    resource_group="docs-aml",
    create_resource_group=True,
    location="eastus2",
    exist_ok=True,
)
ws.get_details()
ws.write_config()
ws = Workspace.from_config()
print(ws.name, ws.location, ws.resource_group, ws.subscription_id, sep="\t")

# In the notebook itself.
experiment = Experiment(workspace=ws, name="train-within-notebook")
with experiment.start_logging() as root_run:
    for alpha in (0.5, 0.1, 0.3):
        with root_run.child_run("alpha_%g" % alpha) as child:
            child.log(name="mse", value=alpha * 2)
            child.tag("alpha", str(alpha))
mse = {child.id: child.get_metrics()["mse"] for child in root_run.get_children()}
print("best mse", min(mse.values()), "of", len(mse))

run = experiment.start_logging()
run.log("alpha", 0.03)
run.log("mse", 0.5)
with open("local.txt", "w") as file:
    file.write("from the notebook")
run.upload_file(name="outputs/local.txt", path_or_stream="./local.txt")
run.complete()
print(run.get_file_names(), run.get_metrics())

# A script, with data from the default datastore.
ds = ws.get_default_datastore()
print(ds.datastore_type, ds.name)
ds.upload(src_dir="./data", target_path="mnist", overwrite=True, show_progress=False)
run_config = RunConfiguration()
run_config.environment.python.user_managed_dependencies = True
run_config.target = "local"
exp = Experiment(workspace=ws, name="sklearn-mnist")
src = ScriptRunConfig(
    source_directory="./",
    script="train.py",
    arguments=["--data-folder", ds.path("mnist").as_download(), "--regularization", 0.25],
    run_config=run_config,
)
run = exp.submit(config=src)
run.wait_for_completion(show_output=True)
print(run.get_status(), run.get_metrics())
print(run.get_file_names())
assert [one.id for one in exp.get_runs()] == [run.id]
assert Run(exp, run_id=run.id).get_details()["status"] == "Completed"

model = run.register_model(model_name="sklearn_mnist", model_path="outputs/model.txt")
print(model.name, model.id, model.version, sep="\t")
model = Model(ws, "sklearn_mnist")
model.download(target_dir=".", exist_ok=True)

# The web service.
myenv = CondaDependencies()
myenv.add_conda_package("six")
with open("myenv.yml", "w") as f:
    f.write(myenv.serialize_to_string())
aciconfig = AciWebservice.deploy_configuration(
    cpu_cores=1, memory_gb=1, tags={"data": "MNIST", "method": "sklearn"}, description="Predict MNIST with sklearn"
)
image_config = ContainerImage.image_configuration(execution_script="score.py", runtime="python", conda_file="myenv.yml")
service = Webservice.deploy_from_model(
    workspace=ws, name="sklearn-mnist-svc", deployment_config=aciconfig, models=[model], image_config=image_config
)
service.wait_for_deployment(show_output=True)
print(service.scoring_uri)
print("prediction", service.run(input_data=json.dumps({"data": [4, 8]})))
print(service.get_logs())
service.delete()
model_file = Model.get_model_path("sklearn_mnist", _workspace=ws)
print("model path", os.path.isfile(model_file))
