"""The operators' door, `/v1/admin`: prices, contracts, accounts, money, and the floor."""
