"""The views: tables folded from the log, written in one transaction with their positions."""
