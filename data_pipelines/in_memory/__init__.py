"""Datasets from what a Python program already holds: tables of readings (`frames`), and arrays of days (`arrays`).

Both write a temporary file and go the way of a command, so that checks, notes and results are the same.
"""
