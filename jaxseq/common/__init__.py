"""Helpers without a domain: files, text, checks, console, errors."""
