"""Reports of films by anybody, decisions on them, and files that may not come back."""
