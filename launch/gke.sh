#!/usr/bin/env bash
# Runs on GKE with a JobSet: launch/gke.sh COMMAND [--dry_run] [-- FLAGS OF aim.main]
#
#   nodes    create the node pool(s) of the slice(s); JobSet must be installed in the cluster
#   apply    start the run: fill in launch/jobset_tpu.yaml or jobset_gpu.yaml and pass it to kubectl
#   render   only print the manifest
#   logs     follow the first pod, the only one that prints
#   status   show the JobSet and its pods
#   delete   end the run: every pod gets SIGTERM and saves
#   unnodes  delete the node pool(s), which ends their cost
#   xpk      use instead of apply on a cluster made by xpk
#
# Needs DATA (see launch/flags.env), IMAGE (built from launch/Dockerfile.tpu or .gpu) and BUCKET;
# nodes and xpk also need PROJECT, CLUSTER, LOCATION (region of the cluster) and ZONE (of the nodes).
# Optional: PLATFORM=gpu, SLICES, HOSTS (per slice), CHIPS (per host), ACCELERATOR, TOPOLOGY, MACHINE, SPOT=yes,
# SERVICE_ACCOUNT (of Kubernetes; may write the bucket), TPU_TYPE (for xpk).

# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse "$@"
if [[ -z $COMMAND ]]; then
  usage "$0"
  exit 2
fi
# shellcheck source=launch/flags.env
source "$ROOT/launch/flags.env"
# shellcheck source=launch/xla_flags.sh
source "$ROOT/launch/xla_flags.sh"

: "${PLATFORM:=tpu}"
: "${SLICES:=1}"
: "${SPOT:=}"
: "${SERVICE_ACCOUNT:=default}"
case $PLATFORM in
  tpu) # v5e:8x16, which experiments/lsm2_base.py is sized for
    : "${ACCELERATOR:=tpu-v5-lite-podslice}" "${TOPOLOGY:=8x16}" "${MACHINE:=ct5lp-hightpu-4t}" "${HOSTS:=32}" "${CHIPS:=4}"
    XLA=("${TPU_FLAGS[@]}")
    ;;
  gpu) # SLICES is 1: GPUs have no slices
    : "${ACCELERATOR:=nvidia-h100-80gb}" "${TOPOLOGY:=}" "${MACHINE:=a3-highgpu-8g}" "${HOSTS:=2}" "${CHIPS:=8}"
    XLA=("${GPU_FLAGS[@]}")
    [[ $SLICES == 1 ]] || die "SLICES=$SLICES: expected 1 for GPUs; set HOSTS instead"
    ;;
  *) die "PLATFORM=$PLATFORM: expected tpu or gpu" ;;
esac
[[ $SHARED == *://* ]] || die "SHARED=$SHARED: expected gs://...; pods share nothing else"
# One process per host. A single process has no other one to find.
DISTRIBUTED=on
[[ $((SLICES * HOSTS)) -gt 1 ]] || DISTRIBUTED=off
FLAGS=("${AIM_FLAGS[@]}" --distributed="$DISTRIBUTED" "${EXTRA[@]}")

# json WORD...: prints the words as a JSON list, which is YAML too.
json() {
  local word list=""
  for word in "$@"; do
    word=${word//\\/\\\\}
    list+=", \"${word//\"/\\\"}\""
  done
  echo "[${list#, }]"
}

# shellcheck disable=SC2034  # args, xla and extra_selector are read by name
render() {
  need IMAGE
  local text name args xla extra_selector=""
  args=$(json "${FLAGS[@]}")
  xla=$(json "${XLA[*]}")
  xla=${xla:1:-1}
  [[ -z $SPOT ]] || extra_selector='cloud.google.com/gke-spot: "true"'
  text=$(< "$ROOT/launch/jobset_$PLATFORM.yaml")
  for name in RUN IMAGE ACCELERATOR TOPOLOGY SLICES HOSTS CHIPS SERVICE_ACCOUNT MAX_RESTARTS \
    GRACE_SECONDS GPU_MEMORY_FRACTION CACHE args xla extra_selector; do
    text=${text//"\${$name}"/"${!name}"}
  done
  [[ $text != *"\${"* ]] || die "launch/jobset_$PLATFORM.yaml has a \${...} that launch/gke.sh does not know"
  echo "$text"
}

apply() {
  local manifest
  manifest=$(render)
  run kubectl apply --filename=- <<< "$manifest"
  [[ -z $DRY_RUN ]] || echo "$manifest"
}

pool() {
  echo "$RUN-$1"
}

nodes() {
  need PROJECT CLUSTER LOCATION ZONE
  local slice options=()
  [[ -z $SPOT ]] || options+=(--spot)
  # A slice of one host has no topology to choose, and GPUs come with the machine.
  [[ $PLATFORM != tpu || $HOSTS == 1 ]] || options+=(--tpu-topology="$TOPOLOGY")
  for ((slice = 0; slice < SLICES; slice++)); do
    run gcloud container node-pools create "$(pool "$slice")" --project="$PROJECT" --cluster="$CLUSTER" \
      --location="$LOCATION" --node-locations="$ZONE" --machine-type="$MACHINE" --num-nodes="$HOSTS" \
      --workload-metadata=GKE_METADATA "${options[@]}"
  done
}

unnodes() {
  need PROJECT CLUSTER LOCATION
  local slice
  for ((slice = 0; slice < SLICES; slice++)); do
    run gcloud container node-pools delete "$(pool "$slice")" --project="$PROJECT" --cluster="$CLUSTER" \
      --location="$LOCATION" --quiet
  done
}

xpk_create() {
  need PROJECT CLUSTER ZONE IMAGE TPU_TYPE
  run xpk workload create --workload="$RUN" --project="$PROJECT" --cluster="$CLUSTER" --zone="$ZONE" \
    --tpu-type="$TPU_TYPE" --num-slices="$SLICES" --docker-image="$IMAGE" \
    --max-restarts="$MAX_RESTARTS" --env="LIBTPU_INIT_ARGS=${TPU_FLAGS[*]}" --env="JAX_COMPILATION_CACHE_DIR=$CACHE" \
    --command="$(quoted python -m aim.main "${FLAGS[@]}")"
}

case $COMMAND in
  nodes | unnodes | apply | render) "$COMMAND" ;;
  logs) run kubectl logs --follow --container=aim \
    --selector="jobset.sigs.k8s.io/jobset-name=$RUN,jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0" ;;
  status) run kubectl get jobsets,pods --selector="jobset.sigs.k8s.io/jobset-name=$RUN" --output=wide ;;
  delete) run kubectl delete jobset "$RUN" ;;
  xpk) xpk_create ;;
  *) die "unknown command $COMMAND; expected nodes, apply, render, logs, status, delete, unnodes or xpk" ;;
esac
