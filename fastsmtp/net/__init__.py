"""Everything that talks to SMTP clients: sockets, flow control, deadlines."""
