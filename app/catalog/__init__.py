"""The catalogue: the video models, their capabilities, and the picture sizes that are sold."""
