"""A process at work: partition tasks, transactions, restore, group membership, liveness."""
