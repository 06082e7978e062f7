"""Where records go: topics, tiers, keys and routing. Pure data and pure functions, no input or output."""
