"""The decisions about a pair: values in, findings, plans and verdicts out. Nothing is touched."""
