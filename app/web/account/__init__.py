"""The account: money, usage, keys, webhooks, people and papers of one customer."""
