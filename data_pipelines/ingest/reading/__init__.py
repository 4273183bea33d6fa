"""Untrusted input files, read safely: folders, zips, CSV in batches, units, clocks.

Nothing here knows a vendor.
"""
