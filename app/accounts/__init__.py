"""Accounts, their projects, members, keys, and the memberships they hold for a time."""
