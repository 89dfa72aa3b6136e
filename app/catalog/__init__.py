"""The catalogue: which video models there are, what they can do, and which picture sizes are sold."""
