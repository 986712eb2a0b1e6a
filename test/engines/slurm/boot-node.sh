# The first process of a machine of the cluster: `boot-node.sh <name>`.
set -e
mount -t proc proc /proc
for place in /tmp /run /dev/shm; do mount -t tmpfs tmpfs "$place"; done
chmod 1777 /tmp /dev/shm
mount -t sysfs sysfs /sys
mkdir -p /run/munge /run/cgroup /run/slurmd
hostname "$1"
munged --force --key-file=/etc/munge/munge.key --socket=/run/munge/munge.socket.2 --log-file=/run/munge/log --seed-file=/run/munge/seed --pid-file=/run/munge/pid
slurmd -b -D -N "$1" # not in the place of this shell, which takes note of orphans that ended
