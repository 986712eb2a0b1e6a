"""Milliseconds from the call to the registered image: with a changed `score.py`, and with a changed model of 50 MB."""
import json
import os
import sys
import tempfile
import time

from stellwerk.core import Workspace
from stellwerk.core.environment import Environment
from stellwerk.core.image import ContainerImage, ContainerImageConfig
from stellwerk.core.model import Model

ROUNDS = int(sys.argv[1])
workspace = Workspace.get(os.environ["STELLWERK_WORKSPACE"])
environment = Environment("bench")
environment.python.requirements = ["six==1.17.0"]


def write_script(number):
    with open("score.py", "w") as file:
        file.write("VERSION = %d\n\ndef init():\n    pass\n\ndef run(data):\n    return VERSION\n" % number)


def write_model():
    with open("model.bin", "wb") as file:
        file.write(os.urandom(50_000_000))


def build(model):
    image = ContainerImage.create(workspace, "scorer", [model], ContainerImageConfig("score.py", environment=environment))
    image.wait_for_creation()
    assert image.creation_state == "Succeeded"
    return image.image_digest


def timed(act):
    called = time.perf_counter()
    answer = act()
    return (time.perf_counter() - called) * 1000, answer


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    write_model()
    write_script(-1)
    model = Model.register(workspace, "model.bin", "model")
    digests = {build(model)}
    scripts, models, builds = [], [], []
    for round in range(ROUNDS):
        write_script(round)
        took, digest = timed(lambda: build(model))
        scripts.append(took)
        digests.add(digest)
    for round in range(ROUNDS):
        write_model()
        registering, model = timed(lambda: Model.register(workspace, "model.bin", "model"))
        took, digest = timed(lambda: build(model))
        models.append(registering + took)
        builds.append(took)
        digests.add(digest)
    assert len(digests) == 1 + 2 * ROUNDS, "an image was not built of what changed"
    os.chdir("/")
print(json.dumps({"score": scripts, "model": models, "build": builds}))
