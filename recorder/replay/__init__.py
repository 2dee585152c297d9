"""Giving recorded or synthetic streams out again."""
