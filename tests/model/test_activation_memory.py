"""The estimate of activations' memory, and which programs recompute them because of it."""

import dataclasses

import pytest

from aim.model.activation_memory import activation_bytes
from aim.model.buffer_sizes import BufferSizes, textbook
from aim.model.lsm2 import Tower
from tests import tiny
from tests.training.test_masked_step import STEP

# 8 slots of 16 numbers and 2 of 64 per layer and slot in the encoder, and half of that in the decoder.
A = tiny.architecture(4, 8, 2, Tower(16, 64, 2, 3), Tower(8, 32, 2, 2), decoder_tokens="all")
PACKED = BufferSizes(2, 100, 300, 50, A.tokens, A.tokens, "observed")


def test_what_a_slot_keeps_by_hand():
  encoder, decoder = 8 * 16 + 2 * 64, 8 * 8 + 2 * 32
  values = 2 * (3 * 100 * encoder + 300 * decoder + 50 * decoder + 300 * 3 * 8)
  observed = dataclasses.replace(A, decoder_tokens="observed")
  assert activation_bytes(observed, PACKED, 4) == 4 * values
  assert activation_bytes(dataclasses.replace(observed, dtype="bfloat16"), PACKED, 4) == 2 * values


def test_visible_keys_by_hand():
  encoder, queries, keys = 8 * 16 + 2 * 64, 6 * 8 + 2 * 32, 4 * 8
  values = 2 * (3 * 100 * encoder + (300 + 50) * queries + 2 * 100 * keys)
  refined = dataclasses.replace(A, decoder_tokens="refined")
  assert activation_bytes(refined, dataclasses.replace(PACKED, decoder_tokens="refined"), 4) == 4 * values


def test_textbook_decodes_every_token_in_every_layer():
  size = textbook(A.tokens, 10, "all")
  values = 3 * (A.tokens - 10) * (8 * 16 + 2 * 64) + 2 * A.tokens * (8 * 8 + 2 * 32)
  assert activation_bytes(A, size, 5) == 5 * 4 * values


@pytest.mark.parametrize(("remat", "recomputing"), [(True, (True, False, True)), (False, (False, False, False))])
def test_programs_recompute_where_they_must(remat, recomputing):
  step = dataclasses.replace(STEP, architecture=dataclasses.replace(A, remat=remat, decoder_tokens="observed"))
  large = dataclasses.replace(PACKED, encoder=1000)
  roomy = dataclasses.replace(step, activation_room=float(activation_bytes(step.architecture, PACKED, 4)))
  assert (step.recomputes(PACKED, 4), roomy.recomputes(PACKED, 4), roomy.recomputes(large, 4)) == recomputing
