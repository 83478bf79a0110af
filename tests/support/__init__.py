"""What several test files need: real brokers, clients, oracles."""
