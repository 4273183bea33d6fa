"""The machine below a run: processes, devices, shardings, compile options, caches, the watchdog.

Nothing here knows what is computed.
"""
