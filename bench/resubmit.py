"""Milliseconds of `experiment.submit` for an unchanged directory of 10,000 files, until the run is accepted. It was submitted before."""
import json
import os
import sys
import tempfile
import time

from stellwerk.core import Experiment, ScriptRunConfig, Workspace

ROUNDS = int(sys.argv[1])

with tempfile.TemporaryDirectory() as source:
    for number in range(10_000):
        place = os.path.join(source, "part_%d" % (number // 100))
        if number % 100 == 0:
            os.makedirs(place)
        with open(os.path.join(place, "file_%d.py" % number), "w") as file:
            file.write("NUMBER = %d\n" % number * 20)
    with open(os.path.join(source, "part_0", "train.py"), "w") as file:
        file.write("print('trained')\n")
    with open(os.path.join(source, ".gitignore"), "w") as file:
        file.write("*.pyc\n__pycache__/\n/data/\nbuild/\n*.log\n.venv\n")
    time.sleep(2.5)  # what was written just now may still change within the clock's grain, so nobody relies on its times
    experiment = Experiment(Workspace.get(os.environ["STELLWERK_WORKSPACE"]), "resubmit")
    times = []
    for round in range(-1, ROUNDS):
        config = ScriptRunConfig(source, os.path.join("part_0", "train.py"), compute_target="host")
        config.run_config.environment.python.user_managed_dependencies = True
        called = time.perf_counter()
        run = experiment.submit(config, show_progress=False)
        accepted = time.perf_counter()
        run.cancel()
        run.wait_for_completion(raise_on_error=False)
        if round >= 0:
            times.append((accepted - called) * 1000)
print(json.dumps(times))
