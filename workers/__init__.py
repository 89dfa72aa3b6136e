"""GPU workers: they answer doorbells, render takes, and finish films."""
