"""The studio: order a film, watch it come, play it, and change it."""
