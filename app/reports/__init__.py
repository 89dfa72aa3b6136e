"""Reports: what the books say, computed again from the rows they rest on."""
