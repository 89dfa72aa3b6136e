"""The studio pages: create films, follow their progress, play them, and derive new ones."""
