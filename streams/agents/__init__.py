"""The Faust agents: intake, tiers and their steps."""
