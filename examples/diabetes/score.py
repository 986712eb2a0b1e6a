"""Predicts the progression of diabetes: `{"data": [[ten numbers], ...]}` gives a list of predictions."""

import json

import joblib
import numpy
from azureml.core.model import Model


def init():
    global model
    model = joblib.load(Model.get_model_path("diabetes"))


def run(raw_data):
    data = numpy.array(json.loads(raw_data)["data"])
    return model.predict(data).tolist()
