"""Where accepted mail goes: `base.Sink` is the contract, the other modules keep it."""
