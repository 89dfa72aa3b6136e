"""The application: accounts, prices, wallets, jobs, dispatch, and the doors that lead to them."""
