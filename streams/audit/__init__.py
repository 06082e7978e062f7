"""Proof that no change of a tracked table went unannounced: PostgreSQL's own log against the outbox."""
