#!/usr/bin/env bash
# Installs, upgrades, rolls back and removes HeteroScale on one host. Engines are never touched.
#
#   PREFIX/0.2.0/        one virtual environment a release, never changed once it is whole
#   PREFIX/current ->    the release in use; `previous` is the one before
#   ETC/agent.yaml       written once, never again
#
# An upgrade is: install beside, let the new release check the configuration, turn `current`, restart.
set -euo pipefail
umask 022 # engines and the coordinator run as other users, and read what is installed here

usage() {
  cat <<'TEXT'
usage: install.sh [agent] [coordinator] [options]     install or upgrade; `agent` if none is named
       install.sh --rollback [options]                back to the release before
       install.sh --uninstall [options]               remove the programs; configuration and state stay

  --from WHAT       a wheel, a source folder, or a pip requirement such as heteroscale==0.2.0
                    (default: the source folder of this script)
  --extras A,B      further extras of the package
  --prefix DIR      where releases go (default /opt/heteroscale); with another one nothing outside of
                    it is touched: configuration in DIR/etc, state in DIR/var, units in DIR/systemd
  --etc DIR         configuration (default /etc/heteroscale)
  --var DIR         state (default /var/lib)
  --python FILE     Python 3.11 or newer (default python3)
  --no-systemd      write the units below PREFIX only, start and stop nothing
  --leave-engines   with --uninstall: engines may go on without an agent
  --purge           with --uninstall: remove configuration and state too

Exit status: 0 done, 1 refused or failed (what ran before runs on), 2 wrong usage.
TEXT
}

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
wrong() { printf 'install.sh: %s\n\n' "$*" >&2; usage >&2; exit 2; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
verb=install parts=() from="" extras="" prefix=/opt/heteroscale etc="" var="" python=python3
systemd=yes leave=no purge=no

while [ $# -gt 0 ]; do
  case "$1" in
    agent | coordinator) parts+=("$1") ;;
    --uninstall | --rollback) verb=${1#--} ;;
    --no-systemd) systemd=no ;;
    --leave-engines) leave=yes ;;
    --purge) purge=yes ;;
    --from | --extras | --prefix | --etc | --var | --python)
      [ $# -gt 1 ] || wrong "$1 wants a value"
      printf -v "${1#--}" '%s' "$2"
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    *) wrong "what is $1?" ;;
  esac
  shift
done
[ ${#parts[@]} -gt 0 ] || parts=(agent)

case "$prefix" in /*) ;; *) prefix=$PWD/$prefix ;; esac
if [ "$prefix" = /opt/heteroscale ]; then
  : "${etc:=/etc/heteroscale}" "${var:=/var/lib}"
  units=/etc/systemd/system bin=/usr/local/bin
else
  : "${etc:=$prefix/etc}" "${var:=$prefix/var}"
  units=$prefix/systemd bin=$prefix/bin
  systemd=no
fi
[ -d /run/systemd/system ] || systemd=no

# ---- install and upgrade -----------------------------------------------------------------------

work=""
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

# Sets `wheel`: what to install, as one file whose name tells its version.
find_wheel() {
  case "$from" in
    *.whl) [ -f "$from" ] || fail "no such file: $from"; wheel=$from; return ;;
    "") from=$here/..; [ -f "$from/pyproject.toml" ] || from=heteroscale ;;
  esac
  "$python" -m venv "$work/build"
  "$work/build/bin/python" -m pip --quiet --disable-pip-version-check wheel --no-deps -w "$work" "$from"
  wheel=$(echo "$work"/heteroscale-*.whl)
  [ -f "$wheel" ] || fail "$from is not heteroscale"
}

# What is installed already is upgraded with the rest: one release serves all parts of a host.
add_installed() {
  local part
  for part in agent coordinator; do
    case " ${parts[*]} " in *" $part "*) continue ;; esac
    [ ! -e "$units/heteroscale-$part.service" ] || parts+=("$part")
  done
  [ -n "$extras" ] || extras=$(cat "$prefix/current/.extras" 2>/dev/null || true)
}

# Makes $prefix/$release whole, or fails; a release that is there is never changed.
make_release() {
  local version wanted=$extras part mark
  version=$(basename "$wheel" | cut -d- -f2)
  for part in "${parts[@]}"; do
    [ "$part" = agent ] || wanted="$wanted,coordinator,cli"
  done
  wanted=${wanted#,}
  mark="$(cksum <"$wheel" | cut -d' ' -f1) $wanted"
  release=$version
  if [ -e "$prefix/$release/.complete" ] && [ "$(cat "$prefix/$release/.complete")" != "$mark" ]; then
    # The same version with other content or extras, as happens in a source tree.
    release=$version-$(cksum <<<"$mark" | cut -d' ' -f1)
  fi
  if [ -e "$prefix/$release/.complete" ]; then
    say "release $release is there"
    return
  fi
  say "installing $release into $prefix/$release"
  rm -rf "${prefix:?}/$release"
  "$python" -m venv "$prefix/$release"
  echo "$extras" >"$prefix/$release/.extras"
  "$prefix/$release/bin/python" -m pip --quiet --disable-pip-version-check install "$wheel${wanted:+[$wanted]}"
  "$prefix/$release/bin/heteroscale-agent" --version >/dev/null || fail "the new release does not start"
  echo "$mark" >"$prefix/$release/.complete"
}

agent_skeleton() {
  cat <<TEXT
# What this host's agent sees, where it reports, and what it may do. Every field: docs/agent.md.
# After a change: $bin/heteroscale doctor -c $etc/agent.yaml, then restart the agent.
apiVersion: heteroscale/v1
kind: Agent
spec:
  coordinator: 127.0.0.1:7070       # host:port; beyond loopback add \`tls\`
  stateDir: $var/heteroscale-agent
  advertiseHost: 127.0.0.1          # where routers reach engines of this host
  # topology: {s1: minipod-3, s2: bigpod-0}
  # templates: what this agent may start; nothing else is ever started
  templates: {}
TEXT
}

coordinator_skeleton() {
  cat <<TEXT
# Every field: docs/coordinator.md.
apiVersion: heteroscale/v1
kind: Coordinator
spec:
  listen: 127.0.0.1:7070            # beyond loopback add \`tls\`
  dataDir: $var/heteroscale-coordinator
TEXT
}

# Never overwrites: what is there is somebody's.
write_config() {
  local part=$1
  [ ! -e "$etc/$part.yaml" ] || return 0
  mkdir -p "$etc"
  "${part}_skeleton" >"$etc/$part.yaml"
  say "wrote $etc/$part.yaml: put your names into it"
}

check_config() {
  "$prefix/$1/bin/heteroscale-$2" check -c "$etc/$2.yaml" >/dev/null \
    || fail "release $1 does not accept $etc/$2.yaml (above); nothing was changed"
}

write_unit() {
  local unit=heteroscale-$1.service
  mkdir -p "$units"
  sed -e "s#/opt/heteroscale/#$prefix/#g" -e "s#/etc/heteroscale/#$etc/#g" \
    "$here/systemd/$unit" >"$units/$unit.new"
  mv "$units/$unit.new" "$units/$unit"
}

# `mv -T` puts the new link in place of the old one in a single step.
turn() {
  ln -sfn "$2" "$prefix/$1.new" && mv -T "$prefix/$1.new" "$prefix/$1"
}

use_release() {
  local before
  before=$(readlink "$prefix/current" || true)
  if [ -n "$before" ] && [ "$before" != "$1" ]; then turn previous "$before"; fi
  turn current "$1"
}

# The names of all installed releases, one a line; not the links to them.
releases() {
  local mark folder
  for mark in "$prefix"/*/.complete; do
    folder=$(dirname "$mark")
    [ ! -e "$mark" ] || [ -L "$folder" ] || basename "$folder"
  done
}

prune() {
  local kept old
  kept="$(readlink "$prefix/current") $(readlink "$prefix/previous" || true)"
  for old in $(releases); do
    case " $kept " in *" $old "*) ;; *) rm -rf "${prefix:?}/$old"; say "removed $old" ;; esac
  done
}

add_user() {
  [ "$(id -u)" = 0 ] && [ "$systemd" = yes ] || return 0
  id heteroscale >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin heteroscale
}

# Starts what is enabled and restarts what runs; a first install is left to a person's edit.
apply_systemd() {
  [ "$systemd" = yes ] || { say "no systemd: restart the agent yourself to use $(readlink "$prefix/current")"; return 0; }
  systemctl daemon-reload
  # The coordinator first: agents find the new one when they look for it.
  for part in $(printf '%s\n' "${parts[@]}" | sort -r); do
    if systemctl is-active --quiet "heteroscale-$part"; then
      systemctl restart "heteroscale-$part"
      say "restarted heteroscale-$part; engines ran on"
    else
      say "next: edit $etc/$part.yaml, then: systemctl enable --now heteroscale-$part"
    fi
  done
}

install() {
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    || fail "Python 3.11 or newer is wanted; name it with --python"
  "$python" -c 'import venv, ensurepip' 2>/dev/null || fail "the venv module is missing (Debian: python3-venv)"
  work=$(mktemp -d)
  add_installed
  find_wheel
  mkdir -p "$prefix" "$bin"
  make_release
  for part in "${parts[@]}"; do
    write_config "$part"
    check_config "$release" "$part"
    write_unit "$part"
  done
  case " ${parts[*]} " in *" coordinator "*) add_user ;; esac
  use_release "$release"
  ln -sfn "$prefix/current/bin/heteroscale" "$bin/heteroscale"
  prune
  say "heteroscale $release is in use; what of this host it can see: $bin/heteroscale doctor -c $etc/agent.yaml"
  apply_systemd
}

rollback() {
  local before
  before=$(readlink "$prefix/previous" || true)
  [ -n "$before" ] || fail "there is no release before in $prefix"
  parts=()
  for part in agent coordinator; do
    [ -e "$units/heteroscale-$part.service" ] || continue
    check_config "$before" "$part"
    parts+=("$part")
  done
  use_release "$before"
  say "heteroscale $before is in use"
  apply_systemd
}

# ---- uninstall ---------------------------------------------------------------------------------

# Where the agent keeps its state: its configuration may say another place than the default.
state_dir() {
  "$prefix/current/bin/python" - "$etc/agent.yaml" 2>/dev/null <<'CODE' || echo "$var/heteroscale-agent"
import sys
from pathlib import Path
from heteroscale_agent.config import load
print(load(Path(sys.argv[1])).state_dir)
CODE
}

# One line an engine of this agent: pid and instance id. An engine leads its session.
engines() {
  local entry pid tags facts
  for entry in /proc/[0-9]*; do
    pid=${entry#/proc/}
    tags=$(tr '\0' '\n' <"$entry/environ" 2>/dev/null) || continue
    grep -qxF "HETEROSCALE_STATE_DIR=$1" <<<"$tags" || continue
    # After the name in parentheses: state, parent, group, session.
    read -ra facts <<<"$(sed 's/.*) //' "$entry/stat" 2>/dev/null)"
    [ "${facts[3]:-}" = "$pid" ] || continue
    echo "$pid $(sed -n 's/^HETEROSCALE_INSTANCE_ID=//p' <<<"$tags")"
  done
}

refuse_engines() {
  [ -n "$1" ] && [ "$leave" = no ] || return 0
  printf 'engines of this agent run (pid, instance):\n%s\n' "$1" >&2
  fail "drain them first (heteroscale pause SERVICE; heteroscale drain INSTANCE), or say --leave-engines"
}

stop_parts() {
  local part
  for part in coordinator agent; do
    if [ "$systemd" = yes ] && [ -e "$units/heteroscale-$part.service" ]; then
      systemctl disable --now --quiet "heteroscale-$part"
    fi
  done
  if [ -e "$1/lock" ] && ! flock --nonblock "$1/lock" true; then
    fail "an agent still runs on $1: stop it first"
  fi
}

uninstall() {
  local state running release
  state=$(state_dir)
  running=$(engines "$state")
  refuse_engines "$running"
  [ "$purge" = no ] || [ -z "$running" ] || fail "engines write to $state: --purge waits until they have ended"
  stop_parts "$state"
  rm -f "$units"/heteroscale-{agent,coordinator}.service
  [ "$systemd" = no ] || systemctl daemon-reload
  for release in $(releases); do rm -rf "${prefix:?}/$release"; done
  rm -f "$prefix/current" "$prefix/previous"
  case "$(readlink "$bin/heteroscale" || true)" in "$prefix"/*) rm -f "$bin/heteroscale" ;; esac
  if [ "$purge" = yes ]; then
    rm -rf "$state" "$var/heteroscale-coordinator" "$etc/agent.yaml" "$etc/coordinator.yaml"
  else
    say "kept: $etc, $state (remove them with --purge)"
  fi
  for empty in "$units" "$bin" "$etc" "$var" "$prefix"; do
    case "$empty" in "$prefix"* | /etc/heteroscale) rmdir "$empty" 2>/dev/null || true ;; esac
  done
  say "removed"
}

"$verb"
