#!/bin/bash
# Slurm wants these machines on.
for name in $(/usr/bin/scontrol show hostnames "$1"); do /engine/node.sh up "$name"; done
