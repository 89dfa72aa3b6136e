"""The account pages: wallet, usage, projects, keys, webhooks, receipts, members of one customer."""
