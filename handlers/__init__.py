"""The effects: handlers, their resolution, tenants and outbound calls. Knows neither Faust nor the projections."""
