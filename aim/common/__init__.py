"""What every other room uses and none owns: config files, progress bars, CSV tables, plotting.

Nothing here knows masking, the model or a dataset.
"""
