# `disk.sh <folder> <megabytes> <system>` mounts the disk that the whole cluster shares, in memory over a system, and stays, so that it is there whether the cluster is on or off.
set -e
cd "$1"
mkdir disk
mount -t tmpfs -o size="$2"m tmpfs disk
mkdir disk/written disk/work disk/root
mount -t overlay overlay -o lowerdir="$3",upperdir=disk/written,workdir=disk/work disk/root
echo ready
exec sleep infinity
