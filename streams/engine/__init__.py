"""Batch driver, acker, lanes, ledger, guard and outcomes: at-least-once with order per key."""
