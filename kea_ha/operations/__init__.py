"""Work on one host, as pyinfra operates it: put one thing in order, or look and change nothing."""
