"""The DashScope door: Alibaba's video tasks on the same jobs, at the same price."""
