# The first process of the head: `head.sh <folder> <name>`. All other machines of the cluster are below it, so they end with it.
set -e
root="$1/disk/root"
mkdir -p "$root/engine"
mount --bind "$1/engine" "$root/engine"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t sysfs sysfs "$root/sys"
for place in tmp run dev/shm; do mount -t tmpfs tmpfs "$root/$place"; done
chmod 1777 "$root/tmp" "$root/dev/shm"
hostname head
exec chroot "$root" bash /engine/services.sh
