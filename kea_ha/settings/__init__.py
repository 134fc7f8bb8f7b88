"""What an operator may say of a pair: every setting, every rule, and the form of a complaint."""
