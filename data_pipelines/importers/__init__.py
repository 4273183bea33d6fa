"""Importers by the name of their --source."""
