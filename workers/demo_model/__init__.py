"""The small model that ships in the repository: its world, its training, its evaluation and its weights."""
