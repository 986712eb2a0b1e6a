"""The whole workflow, from a workspace to a web service that is rolled over to a better model.

Sign in first (`python -m stellwerk login`), then: python walkthrough.py
"""

import json
import os

from stellwerk.core import Experiment, Workspace
from stellwerk.core.image import ContainerImage, Image
from stellwerk.core.runconfig import RunConfiguration
from stellwerk.core.script_run_config import ScriptRunConfig
from stellwerk.core.webservice import Webservice

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENTS = {
    "data": [
        [0.038, 0.051, 0.062, 0.022, -0.044, -0.035, -0.043, -0.003, 0.020, -0.018],
        [-0.002, -0.045, -0.051, -0.026, -0.008, -0.019, 0.074, -0.039, -0.068, -0.092],
    ]
}

# 1. A workspace; its connection is kept beside this file.
workspace = Workspace.create("diabetes", exist_ok=True)
workspace.write_config(HERE)

# 2. How the script runs, and 3. the run itself: a parent with one child for each alpha.
configuration = RunConfiguration.load(os.path.join(HERE, "train.runconfig"))
experiment = Experiment(workspace, "ridge")
run = experiment.submit(ScriptRunConfig(HERE, run_config=configuration), tags={"example": "diabetes"})
run.wait_for_completion(show_output=True)

# 4. The best child.
best = experiment.query("metrics.mse < 10000", order_by="metrics.mse asc", parent=run.id, limit=1)[0]
print("Best:", best.display_name, best.get_metrics())

# 5. Its model.
model = best.register_model("diabetes", "outputs/model.pkl", tags={"kind": "ridge"}, model_framework="ScikitLearn")
print("Registered:", model.id)

# 6. An image.
os.chdir(HERE)
image_config = ContainerImage.image_configuration("score.py", "python", conda_file="scoring.yml", tags={"kind": "ridge"})
image = Image.create(workspace, "diabetes", [model], image_config)
image.wait_for_creation(show_output=True)

# 7. A web service.
service = Webservice.deploy_from_image(workspace, "diabetes", image)
service.wait_for_deployment(show_output=True)
print("Predicted:", service.run(json.dumps(PATIENTS)))

# 8. The next version of the model, rolled out while the service answers.
runner_up = experiment.query("metrics.mse < 10000", order_by="metrics.mse asc", parent=run.id, limit=2)[1]
newer = runner_up.register_model("diabetes", "outputs/model.pkl", tags={"kind": "ridge"})
newer_image = Image.create(workspace, "diabetes", [newer], image_config)
newer_image.wait_for_creation()
service.update(image=newer_image)
service.wait_for_deployment(show_output=True)
print("Predicted with", newer.id, ":", service.run(json.dumps(PATIENTS)))
