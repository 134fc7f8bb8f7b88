"""What a host is like, what it is to be like, and how either travels: scripts and their answers."""
