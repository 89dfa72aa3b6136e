"""Money that customers hold with us: transfers, holds, credit lots and budgets, kept by double entry."""
