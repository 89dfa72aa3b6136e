"""The DashScope interface: Alibaba's video tasks as jobs like any other, at the same price."""
