"""The plugin for Print.com."""
