"""The application: accounts, prices, wallets, jobs, dispatch, and the interfaces to them."""
