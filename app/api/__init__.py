"""HTTP: one file a route, and what the routes share. The engine below knows nothing of it."""
