"""The text of a compiled program tells how often its loops and kernels run, and the bytes that it moves."""

import jax
import jax.numpy as jnp
import pytest

from aim.planning.hlo import Module, size

LAYERS, ROWS, WIDTH = 8, 256, 128
# The loop of a TPU program, which says how often it runs by its condition alone: 7 times, updating a row of 64 bytes.
TPU = """HloModule jit_f, is_scheduled=true

%update (p0: f32[7,16], p1: f32[16], p2: s32[]) -> f32[7,16] {
  %p0 = f32[7,16]{1,0:T(8,128)} parameter(0)
  %p1 = f32[16]{0:T(128)S(1)} parameter(1)
  %p2 = s32[]{:T(128)} parameter(2)
  %row = f32[1,16]{1,0:T(8,128)} bitcast(%p1), metadata={op_name="while/body/x"}
  %zero = s32[]{:T(128)} constant(0)
  ROOT %dus = f32[7,16]{1,0:T(8,128)} dynamic-update-slice(%p0, %row, %p2, %zero), backend_config={"a":[]}
}

%body (arg: (s32[], f32[16], /*index=2*/f32[7,16])) -> (s32[], f32[16], f32[7,16]) {
  %arg = (s32[]{:T(128)}, f32[16]{0:T(128)}, /*index=2*/f32[7,16]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %x = f32[16]{0:T(128)} get-tuple-element(%arg), index=1
  %all = f32[7,16]{1,0:T(8,128)} get-tuple-element(%arg), index=2
  %next = f32[7,16]{1,0:T(8,128)} fusion(%all, %x, %i), kind=kLoop, calls=%update, metadata={op_name="while"}
  ROOT %t = (s32[], f32[16], f32[7,16]) tuple(%i, %x, %next)
}

%cond (arg.1: (s32[], f32[16], f32[7,16])) -> pred[] {
  %limit = s32[]{:T(128)} constant(7)
  %arg.1 = (s32[], f32[16], f32[7,16]) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i.1, %limit), direction=LT, metadata={op_name="while/cond/lt"}
}

ENTRY %main (a: f32[16]) -> f32[7,16] {
  %a = f32[16]{0:T(128)} parameter(0)
  %none = s32[]{:T(128)} constant(0)
  %start = f32[7,16]{1,0:T(8,128)} custom-call(%a), custom_call_target="AllocateBuffer"
  %tuple = (s32[], f32[16], f32[7,16]) tuple(%none, %a, %start)
  %loop = (s32[], f32[16], f32[7,16]) while(%tuple), condition=%cond, body=%body
  ROOT %out = f32[7,16]{1,0:T(8,128)} get-tuple-element(%loop), index=2
}
"""

# As the CUDA compiler prints kernels: cuDNN forward and Triton in a loop of three, cuDNN backward and Triton outside.
GPU = """HloModule jit_f, is_scheduled=true

%triton (p: bf16[8,8]) -> bf16[8,8] {
  %p = bf16[8,8]{1,0} parameter(0)
  ROOT %dot = bf16[8,8]{1,0} dot(%p, %p), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%plain (q: bf16[8,8]) -> bf16[8,8] {
  %q = bf16[8,8]{1,0} parameter(0)
  ROOT %sum = bf16[8,8]{1,0} add(%q, %q)
}

%body (x: bf16[8,8]) -> bf16[8,8] {
  %x = bf16[8,8]{1,0} parameter(0)
  %attend = (bf16[8,8]{1,0}, u8[0]{0}) custom-call(%x), custom_call_target="__cudnn$fmhaSoftmax", backend_config={"a":1}
  %out = bf16[8,8]{1,0} get-tuple-element(%attend), index=0
  ROOT %product = bf16[8,8]{1,0} fusion(%out), kind=kCustom, calls=%triton, backend_config={"fusion_backend_config":{"kind":"__triton_gemm","b":1}}
}

%cond (c: bf16[8,8]) -> pred[] {
  ROOT %c = pred[] constant(true)
}

ENTRY %main (a: bf16[8,8]) -> bf16[8,8] {
  %a = bf16[8,8]{1,0} parameter(0)
  %loop = bf16[8,8]{1,0} while(%a), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %twice = bf16[8,8]{1,0} fusion(%loop), kind=kLoop, calls=%plain
  %once = bf16[8,8]{1,0} fusion(%twice), kind=kCustom, calls=%triton, backend_config={"fusion_backend_config":{"kind":"__triton_gemm"}}
  ROOT %back = bf16[8,8]{1,0} custom-call(%once), custom_call_target="__cudnn$fmhaSoftmaxBackward"
}
"""  # noqa: E501


def test_kernels_by_name_as_often_as_they_run():
  assert Module.read(GPU).kernels() == {"__cudnn$fmhaSoftmax": 3, "__cudnn$fmhaSoftmaxBackward": 1, "__triton_gemm": 4}
  assert Module.read(TPU).kernels() == {}, "its one custom call computes nothing"


def test_a_loop_of_a_tpu_program():
  module = Module.read(TPU)
  call = 64 + 7 * 64  # reads a row, writes seven
  row = 4 + 64 + 64  # reads the number of the row and its values, writes the row
  assert module.bytes_moved(once=True) == call + row
  assert module.bytes_moved() == call + 7 * row
  assert {line.name: times for _, line, times in module.executions() if line.opcode == "fusion"} == {"next": 7}


@pytest.mark.parametrize("differentiate", [False, True])
def test_each_loop_counted_once_is_the_compilers_count(differentiate):
  """The compiler counts the body of a loop once. With all eight repetitions there are seven bodies more."""

  def layers(weights, x, scan):
    layer = jax.checkpoint(lambda x, w: (jnp.tanh(x @ w), None))
    if scan:
      return jax.lax.scan(layer, x, weights)[0].sum()
    for w in weights:
      x = layer(x, w)[0]
    return x.sum()

  shapes = jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), jnp.float32), jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32)
  function = jax.grad(layers) if differentiate else layers
  for scan in (True, False):
    program = jax.jit(function, static_argnums=2).lower(*shapes, scan).compile()
    module = Module.read(program.as_text())
    once, moved = module.bytes_moved(once=True), module.bytes_moved()
    assert once == pytest.approx(program.cost_analysis()["bytes accessed"], rel=1e-3)
    if scan:
      assert (moved - once) % (LAYERS - 1) == 0 and moved > 4 * once
    else:
      assert moved == once


@pytest.mark.parametrize(
  ("shape", "bytes_"),
  [("f32[4,8]{1,0:T(8,128)}", 128), ("(s32[], /*index=1*/bf16[2,3]{1,0})", 16), ("pred[9]", 9), ("s4[7]", 4)],
)
def test_sizes(shape, bytes_):
  assert size(shape) == bytes_
