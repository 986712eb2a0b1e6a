#!/bin/bash
# Slurm wants these machines off.
for name in $(/usr/bin/scontrol show hostnames "$1"); do /engine/node.sh down "$name"; done
