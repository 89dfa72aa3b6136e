"""Stored price books and contracts, their life cycle, and the use of promotions and free seconds."""
