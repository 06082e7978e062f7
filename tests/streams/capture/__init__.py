"""Tests of the capture of changes and of the relay."""
