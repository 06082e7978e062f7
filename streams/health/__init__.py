"""How the six tiers are: measured, judged, and published on `.control` for the routing and for people (R17)."""
