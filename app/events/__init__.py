"""Events, the outbox: every fact for customers is written here, in the transaction that makes it true."""
