"""A secure, highly available Kea DHCPv4 pair, rolled out by pyinfra.

All logic lives here; the deploy scripts only give it an order.
Modules that decide (settings, documents, identities, verdicts) are pure: they know no host.
"""
