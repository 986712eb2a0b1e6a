#!/bin/bash
# Slurm wants these machines on. It takes one that is back within the second for one that has never been off, and may have given up one that is on.
for name in $(/usr/bin/scontrol show hostnames "$1"); do /engine/node.sh down "$name"; done
sleep 2
for name in $(/usr/bin/scontrol show hostnames "$1"); do /engine/node.sh up "$name"; done
