"""Speed and CPU of fastsmtp beside other servers: `make bench`; README.md is the method."""
