"""Tenants: websites, hostnames, tokens and their encrypted configuration."""
