"""The Replicate interface: predictions of Replicate's clients as jobs like any other, at the same price."""
