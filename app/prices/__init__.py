"""Stored price books and contracts, their life, their audit trail, and what promotions and free seconds have left."""
