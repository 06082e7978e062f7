"""State that every role obeys (`.control`), and what workers tell of themselves (`.signals`) (R18)."""
