"""Trains a logistic regression on Fisher's iris data (as scikit-learn ships it) with pyspark.ml, and logs from the driver how it went."""

import argparse
import csv
import json
import os

from pyspark.ml.classification import LogisticRegression
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession

from stellwerk.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--regularisation", type=float, default=0.01)
arguments = parser.parse_args()

run = Run.get_context()
spark = SparkSession.builder.appName("iris").getOrCreate()

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "iris.csv"), newline="") as file:
    rows = list(csv.reader(file))
names, rows = rows[0][2:], rows[1:]


def frame(chosen):
    """In one partition: with 150 rows the sums come out the same on any cluster, to the last digit."""
    points = [(float(row[4]), Vectors.dense([float(value) for value in row[:4]])) for row in chosen]
    return spark.createDataFrame(spark.sparkContext.parallelize(points, 1), ["label", "features"])


test = frame(rows[::5])
train = frame([row for number, row in enumerate(rows) if number % 5])
model = LogisticRegression(regParam=arguments.regularisation, maxIter=10).fit(train)

for step, value in enumerate(model.summary.objectiveHistory):
    run.log("objective", value, step=step)
for name in ("accuracy", "f1"):
    run.log(name, MulticlassClassificationEvaluator(metricName=name).evaluate(model.transform(test)))
run.log_param("regularisation", arguments.regularisation)

os.makedirs("outputs", exist_ok=True)
with open("outputs/model.json", "w") as file:
    json.dump({"names": names, "coefficients": model.coefficientMatrix.toArray().tolist(), "intercepts": list(model.interceptVector)}, file)
print("iris:", spark.sparkContext.master, flush=True)
spark.stop()
