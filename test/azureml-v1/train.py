import argparse
import os

from azureml.core.run import Run

parser = argparse.ArgumentParser()
parser.add_argument("--data-folder", type=str, dest="data_folder", help="data folder mounting point")
parser.add_argument("--regularization", type=float, dest="reg", default=0.01, help="regularization rate")
args = parser.parse_args()

run = Run.get_context()
print("Data folder is at:", args.data_folder, os.listdir(args.data_folder))
run.log("regularization rate", float(args.reg))
run.log("accuracy", 1.0 - args.reg)
run.log_list("errors", [3, 2, 1])
run.log_row("curve", x=1, y=0.5)
os.makedirs("outputs", exist_ok=True)
with open("outputs/model.txt", "w") as file:
    file.write("%g" % args.reg)
