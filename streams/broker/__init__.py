"""Brokers: the embedded one, the local one, provisioning and client settings."""
