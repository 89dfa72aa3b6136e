"""Dispatch: who renders what next. Postgres is the queue of record and the choice is made when a worker asks."""
