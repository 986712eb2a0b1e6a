#!/bin/bash
# On the head: `node.sh up|down <name>` switches a machine of the cluster on or off. It has a network, names, processes, mounts and memory of its own
# and shares the head's disk; its only way leads to the other machines of the cluster.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
. /engine/settings
name=$2
place=/run/nodes/$name
case $1 in
up)
  mkdir -p "$place"
  ip netns add "$name"
  ip link add "to-$name" type veth peer name eth0 netns "$name"
  ip link set "to-$name" master cluster up
  ip -n "$name" addr add "$(awk -v name="$name" '$2 == name { print $1 }' /etc/hosts)/24" dev eth0
  ip -n "$name" link set eth0 up
  ip -n "$name" link set lo up
  setsid nsenter --net="/run/netns/$name" unshare --uts --pid --mount --ipc --fork --kill-child bash /engine/boot-node.sh "$name" \
    >"/var/log/boot.$name.log" 2>&1 </dev/null &
  echo $! >"$place/pid"
  ;;
down)
  pid=$(cat "$place/pid" 2>/dev/null) && kill -9 "$pid"
  while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
  ip link del "to-$name" 2>/dev/null
  ip netns del "$name" 2>/dev/null
  rm -rf "$place"
  ;;
esac
