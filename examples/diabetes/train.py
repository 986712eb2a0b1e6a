"""Trains ridge regressions on scikit-learn's diabetes data, one child run for each strength of the regularisation."""

import argparse
import os

import joblib
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import train_test_split

from stellwerk.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--alphas", type=float, nargs="+", default=[0.1, 0.5, 1.0])
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

run = Run.get_context()
features, target = load_diabetes(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(features, target, test_size=0.2, random_state=arguments.seed)
run.log_table("data", {"part": ["train", "test"], "rows": [len(train_x), len(test_x)]})
os.makedirs("outputs", exist_ok=True)

best = None
for alpha in arguments.alphas:
    with run.child_run(name="alpha %g" % alpha) as child:
        model = Ridge(alpha=alpha).fit(train_x, train_y)
        predicted = model.predict(test_x)
        mse = mean_squared_error(test_y, predicted)
        child.log_param("alpha", alpha)
        child.log("alpha", alpha)
        child.log("mse", mse)
        child.log("r2", r2_score(test_y, predicted))
        child.tag("kind", "ridge")
        path = "outputs/ridge-%g.pkl" % alpha
        joblib.dump(model, path)
        child.upload_file("outputs/model.pkl", path)
        print("alpha %g: mse %.3f" % (alpha, mse), flush=True)
    if best is None or mse < best[1]:
        best = (alpha, mse)

run.log("best_alpha", best[0])
run.log("best_mse", best[1])
