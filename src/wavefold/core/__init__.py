"""Shared helpers that every subpackage may import and that import no other subpackage."""
