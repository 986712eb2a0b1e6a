# The first process of the node's namespaces: `bash node.sh <folder> <debian>`. It makes their mounts, and starts each part again when it ends, unless
# `<folder>/off/<part>` is there. What the parts write outside their folder, settings of the kernel included, stays in here.
set -e
folder="$1" debian="$2"
mount --make-rprivate /
mount -t proc proc /proc
for place in /run /var/lib /var/log; do mount -t tmpfs tmpfs "$place"; done
mkdir -p /run/lock /run/netns /var/lib/kubelet /var/log/containers "$folder/off" "$folder/sysctl"
while read -r name value; do
  [ "$(cat "/proc/sys/$name")" = "$value" ] && continue
  file="$folder/sysctl/$(basename "$name")"
  echo "$value" >"$file"
  mount --bind "$file" "/proc/sys/$name"
done <<EOF
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
EOF
echo 1 >/proc/sys/net/ipv4/ip_forward
mount --make-rshared /
export PATH="$debian/usr/bin:$debian/usr/sbin:$PATH"
library="$(dirname "$(find "$debian/usr/lib" -name 'libseccomp.so.2' | head -n 1)")"
export LD_LIBRARY_PATH="$library"

keep() {
  while :; do
    if [ ! -e "$folder/off/$1" ]; then
      "${@:2}" >>"$folder/log/$1.log" 2>&1 </dev/null &
      echo $! >"$folder/$1.pid"
      wait $! || true
    fi
    sleep 0.5
  done
}

keep containerd containerd --config "$folder/containerd.toml" &
while read -r part; do
  mapfile -t words <"$folder/parts/$part"
  keep "$part" "$folder/kubernetes" "$part" "${words[@]}" &
done < <(ls "$folder/parts")
while :; do wait -n || sleep 1; done
