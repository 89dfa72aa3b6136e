"""Customers' wallets: transfers, holds, credit lots and budgets, kept by double entry."""
