"""What executes a run, on any target: `python3 -m stellwerk.runner <folder>`."""
