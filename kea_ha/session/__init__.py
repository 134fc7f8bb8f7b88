"""One run of pyinfra: how it speaks to hosts, what it has learned of them, its last block."""
