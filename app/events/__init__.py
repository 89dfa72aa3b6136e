"""Events, the outbox: every fact that customers are told is written here, in the transaction that makes it true."""
