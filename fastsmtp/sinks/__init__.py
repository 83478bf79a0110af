"""Where accepted mail goes: `base.Sink` is the contract, `table` says which sink keeps it."""
