#!/usr/bin/env bash
# Runs on a Cloud TPU slice: launch/tpu_vm.sh COMMAND [--dry_run] [-- FLAGS OF aim.main]
#
#   up       create, install, start and watch
#   watch    wait until the run ends, then delete; a preempted slice is requested again, and the run continues
#   create   request the slice (a queued resource) and wait until it is active
#   install  on every worker: pull the image; mount SHARED if it is a folder
#   start    on every worker: start the run, in the background
#   logs     follow the first worker, the only one that prints
#   status   show the state of the slice and of each worker's process
#   stop     send SIGTERM to every worker: the run saves and ends
#   delete   delete the slice, which ends its cost
#
# Needs PROJECT, ZONE, DATA (see launch/flags.env), IMAGE (built from launch/Dockerfile.tpu), and BUCKET or SHARED.
# Optional: ACCELERATOR, RUNTIME, SPOT=yes, SERVICE_ACCOUNT (may write the bucket), COPIES (the workers' folder for copies
# of the dataset), MOUNT (a command that mounts SHARED where that is a folder).

# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse "$@"
if [[ -z $COMMAND ]]; then
  usage "$0"
  exit 2
fi
need PROJECT ZONE
# shellcheck source=launch/flags.env
source "$ROOT/launch/flags.env"
# shellcheck source=launch/xla_flags.sh
source "$ROOT/launch/xla_flags.sh"

: "${ACCELERATOR:=v5litepod-128}" # v5e:8x16, which experiments/lsm2_base.py is sized for
: "${SPOT:=}"
: "${SERVICE_ACCOUNT:=}"
: "${COPIES:=/var/lib/lsm2}" # on a disk with room for the dataset; kept when the container is replaced
CONTAINER=lsm2
WHERE=(--project="$PROJECT" --zone="$ZONE")

# runtime: prints the software version of the TPU VM that JAX needs on ACCELERATOR.
runtime() {
  case $ACCELERATOR in
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    v4-*) echo tpu-ubuntu2204-base ;;
    *) die "ACCELERATOR=$ACCELERATOR: no runtime version is known for it; set RUNTIME=..." ;;
  esac
}

# workers WHICH COMMAND: runs a command in the shell of one worker, or of all.
workers() {
  run gcloud compute tpus tpu-vm ssh "$RUN" "${WHERE[@]}" --worker="$1" --command="$2"
}

state() {
  ask "${1:-ACTIVE}" gcloud compute tpus queued-resources describe "$RUN" "${WHERE[@]}" --format='value(state.state)'
}

create() {
  local options=() version=${RUNTIME:-}
  [[ -n $version ]] || version=$(runtime)
  [[ -z $SPOT ]] || options+=(--spot)
  [[ -z $SERVICE_ACCOUNT ]] || options+=(--service-account="$SERVICE_ACCOUNT")
  run gcloud compute tpus queued-resources create "$RUN" --node-id="$RUN" "${WHERE[@]}" \
    --accelerator-type="$ACCELERATOR" --runtime-version="$version" "${options[@]}"
  local now
  while now=$(state) && [[ $now != ACTIVE ]]; do
    [[ $now != FAILED && $now != SUSPENDED ]] || die "$RUN: the request for $ACCELERATOR in $ZONE is $now; see: \
gcloud compute tpus queued-resources describe $(quoted "$RUN" "${WHERE[@]}")"
    run sleep "$POLL_SECONDS"
  done
}

install() {
  need IMAGE
  local mount=""
  if [[ $SHARED != *://* ]]; then
    need MOUNT
    mount="sudo mkdir -p $(quoted "$SHARED") && { mountpoint --quiet $(quoted "$SHARED") || $MOUNT; } && "
  fi
  # The name of the image contains its registry, which the workers' service account may read.
  workers all "${mount}sudo gcloud auth configure-docker $(quoted "${IMAGE%%/*}") --quiet && sudo docker pull $(quoted "$IMAGE")"
}

start() {
  need IMAGE
  local volumes=(--volume="$COPIES:/cache")
  [[ $SHARED == *://* ]] || volumes+=(--volume="$SHARED:$SHARED")
  # --init forwards SIGTERM; --privileged and --net=host let the container reach the chips and the other workers.
  local command=(
    sudo docker run --detach --init --name="$CONTAINER" --privileged --net=host --ulimit=memlock=-1 --shm-size=16g
    --stop-timeout="$GRACE_SECONDS" "${volumes[@]}" --env=LIBTPU_INIT_ARGS="${TPU_FLAGS[*]}"
    --env=JAX_COMPILATION_CACHE_DIR="$CACHE"
    "$IMAGE" "${AIM_FLAGS[@]}" --distributed=on "${EXTRA[@]}"
  )
  workers all "sudo docker rm --force $CONTAINER > /dev/null 2>&1; $(quoted "${command[@]}")"
}

stop() {
  workers all "sudo docker stop -t $GRACE_SECONDS $CONTAINER"
}

delete() {
  run gcloud compute tpus queued-resources delete "$RUN" "${WHERE[@]}" --force --quiet
}

# processes STAND_IN: prints one line per worker, its container's state and exit code.
processes() {
  ask "$1" gcloud compute tpus tpu-vm ssh "$RUN" "${WHERE[@]}" --worker=all \
    --command="sudo docker inspect --format='{{.State.Status}} {{.State.ExitCode}}' $CONTAINER"
}

# outcome [SLICE PROCESSES]: waits until the run ends and prints how: finished, failed, refused or preempted.
outcome() {
  local now seen unheard=0
  while :; do
    now=$(state "${1:-ACTIVE}") || now=unknown # checked again: the state says when a slice is gone
    case $now in
      SUSPENDING | SUSPENDED | FAILED) echo preempted && return ;;
      ACTIVE) if seen=$(processes "${2:-exited 0}"); then unheard=0; else seen=unheard; fi ;;
      *) seen=unheard ;;
    esac
    if [[ $seen == unheard ]]; then
      ((++unheard < 10)) || { echo failed && return; }
    elif grep -q '^exited 2$' <<< "$seen"; then
      echo refused && return
    elif ! grep -q '^running' <<< "$seen"; then # some end a moment before the others
      if grep -Evq '^exited 0$' <<< "$seen"; then echo failed; else echo finished; fi
      return
    fi
    run sleep "$POLL_SECONDS"
  done
}

# prepare: sets up the workers and starts the run; repeated after a reboot too, which unmounts SHARED.
prepare() {
  install && start && return
  [[ $(state) != ACTIVE ]] || die "$RUN: the workers could not be prepared, see above; the slice still exists and costs money"
}

watch() {
  local restarts now suppose=(SUSPENDED)
  for ((restarts = 0; restarts <= MAX_RESTARTS; restarts++)); do
    now=$(outcome "${suppose[@]}")
    suppose=() # --dry_run: first preempted, then finished
    echo "$RUN: $now, after $restarts restarts" >&2
    case $now in
      finished) delete && return ;;
      refused) die "$RUN: the program refused its input; see: $0 logs; the slice still exists and costs money" ;;
      preempted) delete && create ;;
    esac
    prepare # the run continues from its newest complete checkpoint
  done
  die "$RUN: preempted or failed more than MAX_RESTARTS=$MAX_RESTARTS times; the slice still exists and costs money"
}

up() {
  create
  prepare
  watch
}

case $COMMAND in
  up | watch | create | install | start | stop | delete) "$COMMAND" ;;
  logs) workers 0 "sudo docker logs --follow --tail=200 $CONTAINER" ;;
  status)
    state
    processes "running 0"
    ;;
  *) die "unknown command $COMMAND; expected up, watch, create, install, start, logs, status, stop or delete" ;;
esac
