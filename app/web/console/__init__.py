"""The console: pages for members with an admin role."""
