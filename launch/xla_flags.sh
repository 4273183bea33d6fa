# shellcheck shell=bash disable=SC2034  # read by the scripts that source this
# XLA's flags per platform, each with its reason. A process does not start with a flag that its XLA does not know, so
# tests/launch/test_launch.py starts the pinned versions with them. We have timed none on a TPU or on several GPUs.

# LIBTPU_INIT_ARGS
TPU_FLAGS=(
  # Gather parameters (fsdp) and sum gradients (data) while neighbouring layers compute: collectives, all-gathers
  # included, are cut into steps and run beside fusions, over several steps of the schedule.
  --xla_tpu_enable_async_collective_fusion=true
  --xla_tpu_enable_async_collective_fusion_multiple_steps=true
  --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true
  # The same overlap on the TensorCore itself; without it the pieces above would wait for one another.
  --xla_tpu_overlap_compute_collective_tc=true
  # With several slices, send each gradient over the slow network as soon as its layer is done, not with all the others.
  --xla_tpu_enable_data_parallel_all_reduce_opt=true
  # Our parameters differ in size, and without this the flag above would skip such all-reduces.
  --xla_tpu_data_parallel_opt_different_sized_ops=true
)

# XLA_FLAGS
GPU_FLAGS=(
  # Start collectives as early and end them as late as the schedule allows, so that they overlap with computation.
  --xla_gpu_enable_latency_hiding_scheduler=true
)
# By default XLA takes 75 % of a GPU's memory; nothing else runs on ours.
GPU_MEMORY_FRACTION=0.92
