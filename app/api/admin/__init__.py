"""The admin interface under /v1/admin: prices, contracts, accounts, money and operations."""
