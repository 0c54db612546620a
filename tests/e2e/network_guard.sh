#!/bin/sh
# Makes a network of several hosts on this machine, holds it as long as its standard input is open,
# and then ends every process on it. Run by network.py, below `unshare --mount --net --uts`: what it
# makes is seen nowhere else, and gone when the last process on it is.
#   NAME=ADDRESS/BITS, a host each
set -eu
mount --make-rprivate /
mkdir -p /run/netns
mount -t tmpfs -o mode=755 tmpfs /run/netns
mkdir /run/netns/uts
{
  echo 127.0.0.1 localhost
  for host; do
    address=${host#*=}
    echo "${address%/*} ${host%%=*}"
  done
} > /run/netns/hosts
mount --bind /run/netns/hosts /etc/hosts
ip link set lo up
ip link add name hub type bridge
ip link set hub up
for host; do
  name=${host%%=*}
  ip netns add "$name"
  : > "/run/netns/uts/$name"
  unshare "--uts=/run/netns/uts/$name" hostname "$name"
  ip link add name "to-$name" type veth peer name eth0 netns "$name"
  ip link set "to-$name" master hub up
  ip -n "$name" addr add "${host#*=}" dev eth0
  ip -n "$name" link set eth0 up
  ip -n "$name" link set lo up
done
echo ready
cat > /dev/null || true

# Whoever held this has ended, or was killed. What runs on may start more before it is ended.
left=yes
while [ -n "$left" ]; do
  left=
  for host; do
    for pid in $(ip netns pids "${host%%=*}"); do
      left=yes
      kill -s KILL "$pid" 2> /dev/null || true
    done
  done
done
