"""Seconds that a file takes up to a run and down again, by the client of the product (`stellwerk`) or of the peer (`mlflow`)."""
import hashlib
import json
import os
import sys
import tempfile
import time

CLIENT, SOURCE, ROUNDS = sys.argv[1], sys.argv[2], int(sys.argv[3])


def stellwerk():
    from stellwerk.core import Experiment, Run, Workspace

    workspace = Workspace.get(os.environ["STELLWERK_WORKSPACE"])
    run = Run(Experiment(workspace, "artifact"), workspace.client.runs.start(workspace.name, "artifact")["id"])
    name = os.path.basename(SOURCE)
    return (
        lambda: run.upload_file(name, SOURCE),
        lambda folder: run.download_file(name, os.path.join(folder, name)),
    )


def mlflow():
    from mlflow import MlflowClient

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    run = client.create_run(client.create_experiment("artifact-%d" % time.time_ns())).info.run_id
    return (
        lambda: client.log_artifact(run, SOURCE),
        lambda folder: client.download_artifacts(run, os.path.basename(SOURCE), folder),
    )


def change(number):
    """Another content each time: nothing is brought that is there already."""
    with open(SOURCE, "r+b") as file:
        for block in range(os.path.getsize(SOURCE) >> 20):
            file.seek(block << 20)
            file.write(number.to_bytes(8, "little"))


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read()).hexdigest()


times = []
for round in range(ROUNDS):
    change(time.time_ns())
    os.sync()  # what this program wrote is not what is measured
    up, down = {"stellwerk": stellwerk, "mlflow": mlflow}[CLIENT]()
    with tempfile.TemporaryDirectory(dir=os.path.dirname(SOURCE)) as folder:
        began = time.perf_counter()
        up()
        brought = time.perf_counter()
        down(folder)
        fetched = time.perf_counter()
        assert digest(os.path.join(folder, os.path.basename(SOURCE))) == digest(SOURCE), "another content came back"
    times.append([brought - began, fetched - brought])
print(json.dumps(times))
