"""Tests of what the vendors' plugins share."""
