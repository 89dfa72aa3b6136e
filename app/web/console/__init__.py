"""The console: what runs the service, for people with an admin role."""
