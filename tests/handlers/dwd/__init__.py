"""Tests of the dwd plugin."""
