"""The runs of run-data.ts in a database of MLflow's, read as JSON lines: filled by MLflow's own store, without its server."""
import json
import sys

from mlflow.entities import Metric, Param, RunTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

store = SqlAlchemyStore("sqlite:///" + sys.argv[1], sys.argv[2])
experiment = store.create_experiment("bench")
for line in sys.stdin:
    run = json.loads(line)
    tags = [RunTag(key, value) for key, value in run["tags"].items()]
    made = store.create_run(experiment, "bench", run["at"], tags, run["id"]).info.run_id
    store.log_batch(
        made,
        [Metric(name, value, run["at"], 99) for name, value in run["metrics"].items()],
        [Param(name, str(value)) for name, value in run["parameters"].items()],
        [],
    )
