"""pyinfra operations: each puts one thing in order on one host, or looks and changes nothing."""
