"""AIM and the LSM-2 model as pure functions: patches, masking, encoder and decoder, loss, token buffers.

Only `from_config` knows config files.
"""
