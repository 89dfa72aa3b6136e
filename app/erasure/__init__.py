"""Erasures: personal values of an account, a member or the sender of a report leave the service."""
