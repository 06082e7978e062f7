"""Why events wait: the view ``v_waiting``, and indexes that hold the events that have not ended."""

import sqlalchemy as sa
from alembic import op

revision = "projections_0004"
down_revision = "projections_0003"
branch_labels = None
depends_on = None

_TABLE = "webhook_events"
_INDEXES = {
    "ix_webhook_events_open": ["accepted_at", "event_id"],
    "ix_webhook_events_tenant_open": ["tenant_id", "accepted_at", "event_id"],
}

# Of an event's open waits the one of its furthest task counts, so no event is listed twice. Subqueries have a LIMIT
# where PostgreSQL could otherwise choose to read all of the schedule for a page of a few events.
_STATE = """
SELECT e.*, s.schedule_id, s.lane, s.gate, s.held_by, s.due_at, s.created_at AS wait_created_at,
  CASE
    WHEN e.kind IN ('intent', 'started', 'claimed') THEN 'running'
    WHEN s.lane IS NOT NULL AND s.held_by IS NOT NULL THEN 'strict_lane'
    WHEN s.gate LIKE 'tenant|%' THEN 'tenant_share'
    WHEN s.gate LIKE 'rate|%' THEN 'rate'
    WHEN s.gate LIKE 'host|%' THEN 'circuit'
    WHEN s.gate LIKE 'version|%' THEN 'no_worker_for_version'
    WHEN s.gate LIKE 'call_back|%' THEN 'call_back'
    WHEN s.kind IN ('retry', 'failed', 'reconcile') THEN 'retry_at'
    WHEN s.schedule_id IS NOT NULL THEN 'due_at'
    WHEN e.kind IN ('retry', 'failed', 'unclear', 'waiting') OR (e.kind = 'accepted' AND e.delay_s > 0) THEN
      CASE
        WHEN (
          SELECT d.schedule_id FROM webhook_schedule d
          WHERE d.event_id = e.event_id AND d.tenant_id = e.tenant_id AND d.run = e.run
            AND d.step = COALESCE(e.next_step, e.step) AND d.attempt = COALESCE(e.next_attempt, e.attempt)
          LIMIT 1
        ) IS NOT NULL THEN 'nth_in_tier'
        WHEN e.kind = 'waiting' THEN 'call_back'
        WHEN e.kind = 'accepted' THEN 'due_at'
        ELSE 'retry_at'
      END
    ELSE 'nth_in_tier'
  END AS reason
FROM webhook_events e
LEFT JOIN webhook_schedule s ON s.schedule_id = (
  SELECT w.schedule_id FROM webhook_schedule w
  WHERE w.event_id = e.event_id AND w.tenant_id = e.tenant_id AND w.run = e.run
    AND w.dispatched_at IS NULL AND w.closed_at IS NULL AND e.kind NOT IN ('intent', 'started', 'claimed')
  ORDER BY w.step DESC, w.attempt DESC, w.dispatch_seq DESC, w.schedule_id DESC
  LIMIT 1
)
WHERE e.finished_at IS NULL
"""

_HOLDER = """
CASE
  WHEN v.reason = 'running' THEN (
    SELECT a.worker FROM webhook_attempts a
    WHERE a.accepted_at = v.accepted_at AND a.event_id = v.event_id
      AND a.run = v.run AND a.step = v.step AND a.attempt = v.attempt
  )
  WHEN v.reason = 'strict_lane' THEN (
    SELECT o.event_id FROM webhook_schedule o
    WHERE o.lane = v.lane AND o.lane IS NOT NULL AND o.closed_at IS NULL
    ORDER BY o.run DESC, o.log_offset, o.schedule_id
    LIMIT 1
  )
  WHEN v.gate IS NOT NULL THEN v.gate
  ELSE v.tier
END
"""

# What came out of the schedule is in its tier since then; all else since its last record.
_SINCE = """
CASE
  WHEN v.reason = 'running' THEN COALESCE(v.started_at, v.updated_at)
  WHEN v.reason = 'nth_in_tier' THEN COALESCE((
    SELECT MAX(d.dispatched_at) FROM webhook_schedule d
    WHERE d.event_id = v.event_id AND d.tenant_id = v.tenant_id AND d.run = v.run AND d.dispatched_at > v.updated_at
  ), v.updated_at)
  ELSE COALESCE(v.wait_created_at, v.updated_at)
END
"""

_UNTIL = """
CASE WHEN v.reason IN ('due_at', 'retry_at', 'call_back') THEN COALESCE(v.due_at, v.next_due_at) END
"""

_VIEW = f"""
CREATE VIEW v_waiting AS
SELECT v.event_id, v.tenant_id, v.accepted_at, v.tier, v.endpoint, v.event_type, v.model, v.model_id,
  v.run, v.step, v.attempt, v.reason, {_HOLDER} AS holder, {_SINCE} AS since, {_UNTIL} AS until
FROM ({_STATE}) v
"""  # noqa: S608

_COMMENTS = {
    "event_id": "the event",
    "tenant_id": "its tenant",
    "accepted_at": "when it was accepted",
    "tier": "its tier, if its acceptance is projected",
    "endpoint": "what it was asked for",
    "event_type": "its type",
    "model": "model of the row that it is about",
    "model_id": "primary key of that row",
    "run": "its run, from 1",
    "step": "the step of its last record, from 0",
    "attempt": "the attempt of its last record, from 1",
    "reason": "one of nth_in_tier, running, tenant_share, rate, circuit, due_at, retry_at, strict_lane, call_back, "
    "no_worker_for_version; key_busy and paused, and most of running, are nth_in_tier here: only workers know them",
    "holder": "running: the worker; strict_lane: the event that has the lane; tenant_share, rate, circuit, call_back, "
    "no_worker_for_version: the gate; else the tier",
    "since": "when this reason began",
    "until": "due_at, retry_at: when it ends; call_back: when it times out; else unknown",
}


def upgrade() -> None:
    """Add the indexes and the view, with its columns explained where the database keeps comments."""
    unfinished = sa.text("finished_at IS NULL")
    for name, columns in _INDEXES.items():
        op.create_index(name, _TABLE, columns, postgresql_where=unfinished, sqlite_where=unfinished)
    op.execute(_VIEW)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("COMMENT ON VIEW v_waiting IS 'Every event that has not ended, with the one reason why it waits'")
        for column, comment in _COMMENTS.items():
            op.execute(f"COMMENT ON COLUMN v_waiting.{column} IS '{comment}'")


def downgrade() -> None:
    """Back to tables alone."""
    op.execute("DROP VIEW v_waiting")
    for name in _INDEXES:
        op.drop_index(name, _TABLE)
