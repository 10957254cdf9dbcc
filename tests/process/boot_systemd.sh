#!/bin/sh
# systemd as the first process of namespaces of its own, over a copy-on-write view of this machine's files.
# usage: unshare --fork --pid --mount --uts --ipc --cgroup --kill-child boot_systemd.sh FOLDER
# FOLDER is seen inside as it is outside; all else that is written inside is gone at the end.
set -e
folder=$1
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
root=/mnt/root
# None of this machine's own units, and nothing that sets up a real machine: kernel, devices, /tmp.
rm -rf "$root"/etc/systemd/system/* "$root"/lib/systemd/system/sysinit.target.wants \
  "$root"/lib/systemd/system/local-fs.target.wants "$root"/lib/systemd/system/timers.target.wants
ln -s /dev/null "$root/etc/systemd/system/systemd-remount-fs.service"
mount --bind "$folder" "$root$folder"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm"
exec chroot "$root" env -i container=lxc PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --log-target=console --show-status=0 --unit=basic.target
