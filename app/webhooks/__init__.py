"""Webhooks: endpoints of customers, deliveries of events to them, and the courier that carries these."""
