"""Receiving, stamping and journaling what the gateway sends."""
