#!/bin/sh
# Epilog of slurmd (Epilog=/etc/slurm/heteroscale-epilog.sh), as root, when a job has ended on this node.
# With ProctrackType=proctrack/cgroup Slurm has ended everything already. Elsewhere an engine, which leads a session
# of its own, may outlive a job that was killed, and hold its GPUs. Only engines of this very job are touched.
[ -n "$SLURM_JOB_ID" ] || exit 0
for environ in /proc/[0-9]*/environ; do
  said=$(tr '\0' '\n' 2>/dev/null <"$environ") || continue
  echo "$said" | grep -qx "SLURM_JOB_ID=$SLURM_JOB_ID" || continue
  echo "$said" | grep -q '^HETEROSCALE_INSTANCE_ID=' || continue
  pid=${environ#/proc/}
  kill -KILL "${pid%/environ}" 2>/dev/null
done
rm -rf "${TMPDIR:-/tmp}"/heteroscale-*.job-"$SLURM_JOB_ID"-*
exit 0
