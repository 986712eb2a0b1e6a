import json

from azureml.core.model import Model


def init():
    global model
    with open(Model.get_model_path("sklearn_mnist")) as file:
        model = float(file.read())


def run(raw_data):
    data = json.loads(raw_data)["data"]
    return json.dumps([value * model for value in data])
