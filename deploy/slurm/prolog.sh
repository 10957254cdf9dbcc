#!/bin/sh
# Prolog of slurmd (Prolog=/etc/slurm/heteroscale-prolog.sh), as root, before a job begins on this node.
# A job that could start nothing here fails at once and says why; Slurm drains the node and runs it elsewhere.
case "$SLURM_JOB_COMMENT" in
heteroscale:*) ;;
*) exit 0 ;;
esac
CONFIG=${HETEROSCALE_AGENT_CONFIG:-/etc/heteroscale/job-agent.yaml}
heteroscale agent check --config "$CONFIG" >&2 || {
  echo "print heteroscale: $CONFIG is not usable on $SLURMD_NODENAME"
  exit 1
}
