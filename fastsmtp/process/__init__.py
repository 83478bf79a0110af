"""One process as an operator sees it: configuration, start, stop, logs, command line."""
