#!/bin/sh
# Boots the systemd of this very machine in namespaces of its own, over a copy-on-write view of its
# root: nothing that happens there is seen here. Run by machine.py, below
# `unshare --fork --pid --mount --uts --ipc --net --cgroup`.
#   $1: an empty directory   $2: the repository   $3: packages that its Python is to have
set -eu
here=$1 repository=$2 packages=$3
root=$here/root
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$here"
mkdir "$here/upper" "$here/work" "$here/packages" "$here/packages-work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$here/upper,workdir=$here/work" overlay "$root"

# As if freshly installed, and without the services of its original.
for path in etc/trainerd opt/trainerd var/lib/trainerd var/lib/trainerd-launcher var/log/journal; do
  rm -rf "${root:?}/$path"
done
: > "$root/etc/fstab"
mount -t tmpfs -o mode=755 tmpfs "$root/etc/systemd/system"
for unit in getty.target systemd-logind.service systemd-update-utmp-runlevel.service; do
  ln -s /dev/null "$root/etc/systemd/system/$unit"
done

# The tree that is installed from, and what its packages would be if there were an index here.
mkdir -p "$root/srv/trainerd"
mount --bind "$repository" "$root/srv/trainerd"
python=$("$root/usr/bin/python3" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
target=$root/usr/local/lib/$python/dist-packages
mkdir -p "$target"
mount -t overlay \
  -o "lowerdir=$packages,upperdir=$here/packages,workdir=$here/packages-work" overlay "$target"
rm -rf "$target"/*trainerd*

mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --make-rprivate "$root/sys"
umount -l "$root/sys/fs/cgroup" 2> /dev/null || true
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null:3 zero:5 full:7 random:8 urandom:9; do
  mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"
done
mknod -m 666 "$root/dev/tty" c 5 0
: > "$root/dev/console"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root/sys/fs/cgroup" 2> /dev/null || true
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
cd "$root"
mkdir run/before
pivot_root . run/before
umount -l run/before
exec env -i container=trainerd-test PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
  /lib/systemd/systemd --system --unit=multi-user.target --show-status=no \
  --log-target=journal --log-level=info systemd.unified_cgroup_hierarchy=1
