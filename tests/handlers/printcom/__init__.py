"""Tests of the printcom plugin."""
