"""Reports: audits, replays, statements, usage and simulations, computed from stored rows."""
