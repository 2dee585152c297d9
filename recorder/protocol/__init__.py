"""The broker's language: no I/O, no clock."""
