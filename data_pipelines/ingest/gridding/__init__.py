"""Readings of any rate on the minutes of days: spooled to disk, combined, checked for wear.

Nothing here knows a vendor either.
"""
