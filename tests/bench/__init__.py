"""Benchmarks. A module measures pairs, ours and a bare loop in turn in one run, and gives ratios: seconds depend on the
machine, ratios hardly.

``measure(...)`` of each module returns ``{pair: {"ratio": ours / bare, ...}}``; further figures stand beside the ratio.
"""
