"""The command line: one process tree for a laptop, one command per role in production, and operator tools."""
