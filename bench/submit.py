"""Milliseconds from `experiment.submit` to the first line of the script: a directory of ten files, all changed, its environment made before. Rounds one after another."""
import json
import os
import sys
import tempfile
import time

from stellwerk.core import Environment, Experiment, ScriptRunConfig, Workspace

TARGET, ROUNDS = sys.argv[1], int(sys.argv[2])
SCRIPT = "import time; begun = time.time_ns()\nimport sys\nopen(sys.argv[1], 'w').write(str(begun))\n"

with tempfile.TemporaryDirectory() as folder:
    source = os.path.join(folder, "project")
    os.makedirs(source)
    mark = os.path.join(folder, "begun")
    environment = Environment("bench")
    environment.python.requirements = ["six==1.17.0"]
    experiment = Experiment(Workspace.get(os.environ["STELLWERK_WORKSPACE"]), "submit-" + TARGET)
    times = []
    for round in range(-2, ROUNDS):  # the first makes the environment
        for number in range(9):
            with open(os.path.join(source, "module_%d.py" % number), "w") as file:
                file.write("ROUND = %d\nVALUES = [%s]\n" % (round, ", ".join(map(str, range(number * 200)))))
        with open(os.path.join(source, "train.py"), "w") as file:
            file.write(SCRIPT + "# changed in round %d\n" % round)
        config = ScriptRunConfig(source, "train.py", [mark], compute_target=TARGET, environment=environment)
        called = time.time_ns()
        run = experiment.submit(config, show_progress=False)
        run.wait_for_completion()
        with open(mark) as file:
            begun = int(file.read())
        assert begun > called, "the script wrote the mark of an earlier round"
        if round >= 0:
            times.append((begun - called) / 1e6)
print(json.dumps(times))
