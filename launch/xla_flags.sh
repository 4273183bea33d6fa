# shellcheck shell=bash disable=SC2034  # read by the scripts that source this
# XLA's flags per platform, each with its reason. A process refuses to start with a flag that its XLA does not know:
# tests/launch/test_launch.py starts the pinned versions with them. None was timed by us on a TPU or on several GPUs.

# LIBTPU_INIT_ARGS
TPU_FLAGS=(
  # Parameters are gathered (fsdp) and gradients summed (data) while the layers before or after compute: collectives
  # are cut in steps and laid beside fusions, over several steps of the schedule, all-gathers too.
  --xla_tpu_enable_async_collective_fusion=true
  --xla_tpu_enable_async_collective_fusion_multiple_steps=true
  --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true
  # The same overlap on the TensorCore itself; without it the pieces above wait for one another.
  --xla_tpu_overlap_compute_collective_tc=true
  # Several slices: a gradient is sent over the slow network as soon as its layer is done, not with all the others.
  --xla_tpu_enable_data_parallel_all_reduce_opt=true
  # Our parameters differ in size; the flag above leaves such all-reduces alone otherwise.
  --xla_tpu_data_parallel_opt_different_sized_ops=true
)

# XLA_FLAGS
GPU_FLAGS=(
  # Collectives start as early and end as late as the schedule allows, so that they overlap with computing.
  --xla_gpu_enable_latency_hiding_scheduler=true
)
# XLA takes 75 % of a GPU's memory by itself; nothing else runs on ours.
GPU_MEMORY_FRACTION=0.92
