"""What Kea reads and what Kea says: its configuration, status, log and lease file, as values."""
