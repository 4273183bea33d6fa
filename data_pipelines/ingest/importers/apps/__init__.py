"""Exports of apps and rings: each importer turns records into rows, of which `rows` makes readings.

Most vendors here publish no specification of their exports. What is read is what public documents and readers that
others wrote for real exports agree on, as each module says; what they do not agree on is left out and counted.
"""
