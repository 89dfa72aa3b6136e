"""What operators do: accounts, money, jobs, workers. The admin API and the console call the same verbs."""
