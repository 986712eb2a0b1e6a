"""`python3 -m stellwerk.runner`: executes a run (`<folder>`), starts one detached (`--start -`), ships an interactive one (`--ship <folder>`)."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m stellwerk.runner", description=__doc__)
    parser.add_argument("folder", nargs="?", help="the folder of an attempt, with its job.json")
    parser.add_argument("--start", metavar="FILE", help="start a runner for the job in this file (- for standard input), and print where it is")
    parser.add_argument("--below", metavar="FOLDER", help="with --start: where the folders of runs lie")
    parser.add_argument("--ship", metavar="FOLDER", help="ship an interactive run")
    parser.add_argument("--start-shipper", metavar="FOLDER", help="start what ships an interactive run, detached")
    parser.add_argument("--look", metavar="FOLDER", help="print how far the attempt in a folder is")
    parser.add_argument("--stop", metavar="FOLDER", help="tell the runner of a folder to ask the server at once whether to stop")
    parser.add_argument("--prepare", metavar="FOLDER", help="make the environment of the job in this folder, for runs of other users too")
    parser.add_argument("--machine", action="store_true", help="print what this machine has: platform, Python minors, conda")
    parser.add_argument("--image", metavar="NAME", help="with --machine: what this container image has")
    given = parser.parse_args(arguments)
    if given.machine or given.start:
        return _local(given)
    if given.start_shipper:
        from stellwerk.runner.local import ship_detached

        ship_detached(given.start_shipper)
        return 0
    if given.ship:
        from stellwerk.runner.ship import ship

        return ship(given.ship)
    if given.prepare:
        from stellwerk.runner.prepare import prepare

        os.chdir("/")
        return prepare(given.prepare)
    if given.look or given.stop:
        return _look(given.look or given.stop, given.stop is not None)
    if not given.folder:
        parser.error("name the folder of an attempt")
    return _execute(given.folder)


def _execute(folder):
    from stellwerk.runner.attempt import Attempt
    from stellwerk.runner.place import Place
    from stellwerk.runner.spark import runs_elsewhere

    os.chdir("/")
    if runs_elsewhere(Place(folder).job()):
        from stellwerk.runner.yarn import Submission

        return Submission(folder).execute()

    return Attempt(folder).execute()


def _local(given):
    from stellwerk.runner.local import machine_for, start
    from stellwerk.runner.local_container import NoContainer

    try:
        if given.machine:
            print(json.dumps(machine_for({"container": {"image": given.image}})))
            return 0
        with sys.stdin if given.start == "-" else open(given.start, encoding="utf-8") as file:
            job = json.load(file)
        print(json.dumps(start(job, given.below)))
        return 0
    except NoContainer as error:
        sys.stderr.write("%s\n" % error)
        return 1


def _look(folder, stop):
    from stellwerk.runner.place import Place
    from stellwerk.runner.recover import alive

    place = Place(folder)
    runner = place.runner() or place.state().get("runner")
    living = alive(runner)
    if stop and living:
        os.kill(runner["pid"], signal.SIGTERM)
    state = "running" if living else "undelivered" if os.path.isdir(place.folder) else "delivered"
    print(json.dumps({"state": state, "verdict": place.state().get("verdict")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
