"""Charts and pictures, of no one domain."""
