"""Inbound webhooks: whose they are, what their signature proves, and what they say."""
