"""One file for each revision. A released revision is never edited."""
