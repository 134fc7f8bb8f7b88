"""What a command does to a live pair, one server at a time: each made of the operations."""
