"""Who may send: one file a back end, and the one that asks them (`authenticator`)."""
