"""How changes and triggers become records: model mixin, outbox and relay."""
