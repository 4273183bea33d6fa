"""XLA's alarms about slow compiling do not reach the terminal; all else that it writes does."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim.runtime import xla_alarms
from tests import tiny

# As jaxlib 0.10.2 writes them.
COMPILING = b"""E1128 16:20:00.123456   12345 slow_operation_alarm.cc:73]\x20
********************************
[Compiling module jit_train] Very slow compile? If you want to file a bug, run with envvar XLA_FLAGS=--xla_dump_to=/tmp
********************************
"""
FOLDING = b"""E1128 16:20:00.123456   12345 slow_operation_alarm.cc:73] Constant folding an instruction is taking > 1s:

  %reduce.8 = f64[200000,10]{1,0} reduce(f64[200000,10,10]{2,1,0} %broadcast.2, f64[] %constant.3), dimensions={2}

This isn't necessarily a bug; constant-folding is inherently a trade-off between compilation time and speed at runtime.

If you'd like to file a bug, run with envvar XLA_FLAGS=--xla_dump_to=/tmp/foo and attach the results.
E1128 16:20:01.123456   12345 slow_operation_alarm.cc:140] The operation took 1.42s
Constant folding an instruction is taking > 1s:

  %reduce.8 = f64[200000,10]{1,0} reduce(f64[200000,10,10]{2,1,0} %broadcast.2, f64[] %constant.3), dimensions={2}

This isn't necessarily a bug; constant-folding is inherently a trade-off between compilation time and speed at runtime.

If you'd like to file a bug, run with envvar XLA_FLAGS=--xla_dump_to=/tmp/foo and attach the results.
"""
OTHERS = (
  b"E1128 16:20:02.0   12345 pjrt_client.cc:1] RESOURCE_EXHAUSTED: out of memory\n",
  b"F1128 16:20:02.0   12345 coordination.cc:1] Check failed: ok\n",
  b"    @ 0x55 a frame of a stack\n",
  b"Segmentation fault\n",
)


@given(st.lists(st.sampled_from([COMPILING, FOLDING, *OTHERS]), max_size=8))
def test_only_alarms_are_dropped(records):
  lines = b"".join(records).splitlines(keepends=True)
  assert b"".join(xla_alarms.without_alarms(lines)) == b"".join(r for r in records if r in OTHERS)


@pytest.mark.parametrize(("end", "code"), [("pass", 0), ("os._exit(3)", 3), ("os.abort()", -6)])
def test_what_else_a_process_writes_arrives_even_if_it_is_aborted(end, code):
  program = f"""
import os, sys
from aim.runtime import xla_alarms
xla_alarms.hide_alarms()
print("from Python", file=sys.stderr)
os.write(2, {COMPILING!r})
os.write(2, {OTHERS[0] + FOLDING + OTHERS[1]!r})
{end}
"""
  ended = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=tiny.ROOT, timeout=60)
  assert ended.returncode == code
  assert sorted(ended.stderr.splitlines(keepends=True)) == sorted([b"from Python\n", *OTHERS[:2]])
